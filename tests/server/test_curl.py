"""What the README shows with curl, and what else people do with it."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.server.daemon import Daemon
from tests.server.upstream import Upstream

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")


def curl(*arguments: str) -> str:
    """Run curl; return its standard output and, behind it, what -v shows."""
    result = subprocess.run(
        ["curl", "-sS", "--max-time", "20", "--noproxy", "*", *arguments],
        capture_output=True,
        timeout=25,
        check=True,
    )
    return (result.stdout + result.stderr).decode()


@pytest.fixture
def content(tmp_path: Path) -> Path:
    """Give a file that is too large to be kept in memory."""
    path = tmp_path / "content"
    path.write_bytes(bytes(range(256)) * 4096)
    return path


def digest_of(path: Path) -> dict[str, object]:
    data = path.read_bytes()
    return {"length": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def without_date(head: str) -> list[str]:
    return [line for line in head.splitlines() if not line.startswith("Date:")]


def test_get_from_the_application(daemon: Daemon) -> None:
    shown = curl("-v", f"{daemon.url}/bytes/32")
    assert shown.startswith("0123456789abcdef0123456789abcdef")
    assert "< HTTP/1.1 200 OK" in shown
    assert "< Server: proxyd" in shown
    assert "< Via: 1.1 proxyd" in shown
    assert "< Content-Length: 32" in shown


def test_get_a_file_which_the_application_never_sees(daemon: Daemon) -> None:
    shown = curl("-v", f"{daemon.url}/static/page.html")
    assert "<p>a file" in shown
    assert "< Content-Type: text/html; charset=utf-8" in shown
    assert "< ETag: " in shown
    assert "Via:" not in shown
    assert not [path for path in daemon.ask_json("/seen") if path.startswith("/static")]


@pytest.mark.parametrize("target", ["/bytes/32", "/static/page.html"])
def test_head_is_a_get_without_its_content(daemon: Daemon, target: str) -> None:
    head = curl("-I", f"{daemon.url}{target}")
    got = curl("-sD", "-", "-o", "/dev/null", f"{daemon.url}{target}")
    assert "HTTP/1.1 200 OK" in head
    assert without_date(head) == without_date(got)


def test_two_requests_share_a_connection(daemon: Daemon) -> None:
    shown = curl("-v", f"{daemon.url}/static/page.html", f"{daemon.url}/bytes/16")
    assert shown.count("Connected to") == 1
    assert "Re-using existing connection" in shown


def test_a_large_upload_arrives_byte_for_byte(daemon: Daemon, content: Path) -> None:
    shown = curl("--data-binary", f"@{content}", f"{daemon.url}/digest")
    assert json.loads(shown) == digest_of(content)


def test_a_chunked_upload_arrives_with_its_length(daemon: Daemon, content: Path) -> None:
    shown = curl(
        "-H", "Transfer-Encoding: chunked", "--data-binary", f"@{content}", f"{daemon.url}/digest"
    )
    assert json.loads(shown) == digest_of(content)


def test_a_client_that_waits_for_100_continue_gets_it(daemon: Daemon, content: Path) -> None:
    shown = curl(
        "-v", "-H", "Expect: 100-continue", "--expect100-timeout", "15",
        "--data-binary", f"@{content}", f"{daemon.url}/digest",
    )  # fmt: skip
    assert "< HTTP/1.1 100 Continue" in shown
    assert "< HTTP/1.1 200 OK" in shown
    assert shown.index("100 Continue") < shown.index("200 OK")


def test_content_that_is_too_large_is_refused_before_it_is_sent(
    daemon: Daemon, content: Path, upstream: Upstream
) -> None:
    shown = curl(
        "-v", "-H", "Expect: 100-continue", "--expect100-timeout", "15",
        "--data-binary", f"@{content}", f"{daemon.url}/small/",
    )  # fmt: skip
    assert "100 Continue" not in shown
    assert "< HTTP/1.1 413 " in shown
    assert not upstream.has_another()


def test_a_client_that_is_still_sending_reads_that_it_sends_too_much(
    daemon: Daemon, content: Path, upstream: Upstream
) -> None:
    shown = curl(
        "-H", "Expect:", "-H", "Accept: application/json",
        "--data-binary", f"@{content}", f"{daemon.url}/small/",
    )  # fmt: skip
    assert json.loads(shown)["status"] == 413
    assert not upstream.has_another()


def test_http_1_0_gets_an_answer_that_ends_with_its_connection(daemon: Daemon) -> None:
    shown = curl("-v", "--http1.0", f"{daemon.url}/bytes/16")
    assert shown.startswith("0123456789abcdef")
    assert "< HTTP/1.1 200 OK" in shown
    assert "< Connection: close" in shown


def test_a_part_of_a_file(daemon: Daemon) -> None:
    assert curl("-r", "0-8", f"{daemon.url}/static/page.html") == "<!doctype"


def test_a_compressed_file_is_unpacked_to_the_same(daemon: Daemon) -> None:
    url = f"{daemon.url}/static/style.css"
    shown = curl("-v", "--compressed", "-H", "Accept-Encoding: gzip", url)
    assert "< Content-Encoding: gzip" in shown
    assert shown.startswith((daemon.folder / "static" / "style.css").read_text())
