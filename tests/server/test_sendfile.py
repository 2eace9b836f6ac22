"""Files that a real application has proxyd send: X-Sendfile and X-Accel-Redirect."""

from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.server.daemon import Daemon, serving
from tests.server.wire import Message

SITE = """
[[listen]]
address = "127.0.0.1:0"
[app.flask]
wsgi = "application:app"
sendfile = { "/protected/" = "private" }
[app.forbidden]
wsgi = "application:app"
[[route]]
path = "/forbidden/*"
to = "forbidden"
strip_prefix = true
[[route]]
path = "/cached/*"
to = "flask"
strip_prefix = true
[[route]]
path = "/*"
to = "flask"
[route.cache]
enabled = false
"""
CONTENT = bytes(range(256)) * 8192  # 2 MiB: streamed


@pytest.fixture(scope="module")
def site() -> Iterator[Daemon]:
    with serving(SITE) as running:
        private = running.folder / "private"
        (private / "small.txt").write_text("a small file")
        (private / "large.bin").write_bytes(CONTENT)
        (private / "out").symlink_to(running.folder / "application.py")
        yield running
        assert running.stop() == 0
        running.check_clean()


def named(daemon: Daemon, field: str, value: str, *lines: str, **more: str) -> Message:
    query = "&".join(f"{quote(name)}={quote(text)}" for name, text in more.items())
    return daemon.ask(f"/cached/named?{field}={quote(value)}&{query}", *lines)


def of_private(daemon: Daemon, name: str) -> str:
    return str(daemon.folder / "private" / name)


def test_flask_s_send_file_is_sent_by_proxyd(site: Daemon) -> None:
    answer = site.ask("/send/large.bin")
    assert (answer.status, answer.body) == (200, CONTENT)
    assert answer.get("content-type") == "application/octet-stream"
    assert answer.get("x-by") == "flask"
    assert answer.get("x-sendfile") is None
    assert answer.get("accept-ranges") == "bytes"


def test_ranges_and_conditions_are_those_of_the_file(site: Daemon) -> None:
    etag = site.ask("/send/large.bin", method="HEAD").get("etag")
    part = site.ask("/send/large.bin", "Range: bytes=1000000-1000003", f"If-Range: {etag}")
    assert (part.status, part.body) == (206, CONTENT[1000000:1000004])
    assert part.get("content-range") == f"bytes 1000000-1000003/{len(CONTENT)}"
    assert site.ask("/send/large.bin", f"If-None-Match: {etag}").status == 304
    assert site.ask("/send/large.bin", "Range: bytes=9999999-").status == 416


def test_a_head_has_the_length_of_the_file(site: Daemon) -> None:
    head = site.ask("/send/large.bin", method="HEAD")
    assert (head.status, head.get("content-length")) == (200, str(len(CONTENT)))


def test_a_redirect_leads_to_the_file_of_its_prefix(site: Daemon) -> None:
    answer = named(site, "accel", "/protected/small.txt", type="text/x")
    assert (answer.status, answer.body) == (200, b"a small file")
    assert answer.get("content-type") == "text/x"
    assert answer.get("x-accel-redirect") is None


def test_an_error_page_may_be_a_file(site: Daemon) -> None:
    answer = named(site, "accel", "/protected/small.txt", "Range: bytes=0-1", status="404 Gone")
    assert (answer.status, answer.body) == (404, b"a small file")


@pytest.mark.parametrize(
    "value",
    [
        "/protected/../application.py",
        "/protected/..%2Fapplication.py",
        "/protected/out",
        "/protected/nothing",
        "/protected/",
        "/other/small.txt",
        "http://127.0.0.1/",
    ],
)
def test_nothing_else_is_sent(site: Daemon, value: str) -> None:
    before = len(site.log)
    answer = named(site, "accel", value)
    assert answer.status == 404
    assert b"Flask" not in answer.body
    site.wait_for_log("X-Accel-Redirect", before)


@pytest.mark.parametrize("name", ["../application.py", "out", "nothing"])
def test_no_name_leads_out_of_the_folder(site: Daemon, name: str) -> None:
    assert named(site, "file", of_private(site, name)).status == 404


def test_who_has_no_leave_sends_its_own_content(site: Daemon) -> None:
    name = quote(of_private(site, "small.txt"))
    answer = site.ask(f"/forbidden/named?file={name}")
    assert (answer.status, answer.body) == (200, b"its own")
    assert answer.get("x-sendfile") is None
    assert site.ask("/forbidden/send/small.txt").body == b"a small file"


def test_what_is_cached_is_the_file(site: Daemon) -> None:
    target = "/cached/send/small.txt?max_age=60"
    before = len(site.ask_json("/seen"))
    for _ in range(3):
        answer = site.ask(target)
        assert (answer.status, answer.body) == (200, b"a small file")
    etag = answer.get("etag")
    assert site.ask(target, f"If-None-Match: {etag}").status == 304
    assert site.ask(target, "Range: bytes=2-6").body == b"small"
    head = site.ask(target, method="HEAD")
    assert (head.status, head.get("content-length")) == (200, "12")
    assert site.ask_json("/seen")[before:].count("/send/small.txt") == 1


def test_a_cached_file_is_validated_with_the_application(site: Daemon) -> None:
    target = "/cached/send/large.bin?max_age=0"
    for _ in range(2):
        assert site.ask(target).body == CONTENT
    assert site.ask(target, method="HEAD").get("content-length") == str(len(CONTENT))
    assert site.ask(target, "Range: bytes=5-6").body == CONTENT[5:7]
