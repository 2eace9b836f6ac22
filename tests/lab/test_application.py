"""The lab's application, called as a WSGI server calls it."""

import json
import time
from io import BytesIO
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper

import pytest

from proxy.lab import application
from proxy.lab.application import DIGEST_FIELD, DOWNLOAD_BYTES, HELLO, Pages, digest, plain_page
from proxy.rules.server_timing import parse

KEY = b"key"
Answer = tuple[str, dict[str, str], bytes]


def call(app: application.Wsgi, path: str, body: bytes = b"", **environ: str) -> Answer:
    told: list[Any] = []
    asked = {
        "REQUEST_METHOD": "GET",
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": BytesIO(body),
        **environ,
    }
    result = app(asked, lambda status, fields: told.extend((status, dict(fields))))
    got = b"".join(result)
    if hasattr(result, "close"):
        result.close()
    return told[0], told[1], got


@pytest.fixture
def pages(tmp_path: Path) -> Pages:
    (tmp_path / "a.bin").write_bytes(b"file" * 50_000)
    return Pages(plain_page, "/", tmp_path, KEY)


@pytest.mark.parametrize(
    ("path", "cache_control"),
    [("/lab/dynamic", "private, no-store"), ("/lab/public", "public, max-age=60")],
)
def test_the_page_carries_its_digest_and_what_may_be_done_with_it(
    pages: Pages, path: str, cache_control: str
) -> None:
    status, fields, body = call(pages, path)
    assert status == "200 OK"
    assert fields["Cache-Control"] == cache_control
    assert fields[DIGEST_FIELD] == digest(KEY, body)
    assert int(fields["Content-Length"]) == len(body) > 5000


def test_the_page_is_that_of_the_application_with_its_own_status_and_query() -> None:
    asked: list[tuple[str, str]] = []
    closed: list[bool] = []

    class Result(list[bytes]):
        def close(self) -> None:
            closed.append(True)

    def inner(environ: dict[str, Any], start_response: Any) -> Result:
        asked.append((environ["PATH_INFO"], environ["QUERY_STRING"]))
        start_response("404 Not Found", [("Set-Cookie", "a=b"), ("content-type", "text/x")])
        return Result([b"not ", b"there"])

    status, fields, body = call(Pages(inner, "/news?page=2", None, KEY), "/lab/public")
    assert (status, body, asked) == ("404 Not Found", b"not there", [("/news", "page=2")])
    assert fields["Content-Type"] == "text/x"
    assert "Set-Cookie" not in fields
    assert closed == [True]


def test_other_paths_are_the_application_s() -> None:
    def inner(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [environ["PATH_INFO"].encode()]

    assert call(Pages(inner, "/", None, KEY), "/static/x")[2] == b"/static/x"


def test_a_file_comes_whole_with_and_without_a_wrapper_of_the_server(pages: Pages) -> None:
    assert call(pages, "/static/a.bin")[2] == b"file" * 50_000
    wrapped: dict[str, Any] = {"wsgi.file_wrapper": FileWrapper}
    assert call(pages, "/static/a.bin", **wrapped)[2] == b"file" * 50_000
    assert call(pages, "/static/none.bin")[0] == "404 Not Found"


def test_it_sends_a_download_and_takes_an_upload(pages: Pages) -> None:
    assert call(pages, "/lab/hello")[2] == HELLO
    assert len(call(pages, "/lab/download")[2]) == DOWNLOAD_BYTES
    assert call(pages, "/lab/upload", b"x" * 100_000)[2] == b"100000\n"


def test_it_tells_once_what_it_has_seen(pages: Pages) -> None:
    call(pages, "/lab/probe/one", b"content", HTTP_X_LAB="a")
    call(pages, "/lab/probe/two", CONTENT_LENGTH="nonsense")
    one, two = json.loads(call(pages, "/lab/seen")[2])
    assert (one["name"], one["body"], one["HTTP_X_LAB"]) == ("one", "content", "a")
    assert (two["name"], two["length"]) == ("two", "nonsense")
    assert json.loads(call(pages, "/lab/seen")[2]) == []


def test_the_environment_says_which_application(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(application.APP, "proxy.lab.application:plain_page")
    monkeypatch.setenv(application.KEY, "key")
    assert call(application.from_environment(), "/lab/dynamic")[0] == "200 OK"
    assert isinstance(application.app, Pages)
    with pytest.raises(AttributeError):
        _ = application.nothing


def test_the_timed_page_says_how_long_it_took_by_the_clock_and_on_the_cpu() -> None:
    def inner(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        time.sleep(0.02)
        start_response("200 OK", [])
        return [b"slept"]

    status, fields, body = call(Pages(inner, "/", None, KEY), "/lab/journey")
    assert (status, fields[DIGEST_FIELD]) == ("200 OK", digest(KEY, body))
    assert fields["Cache-Control"] == "public, max-age=60"
    told = {one.name: one.duration_s for one in parse([fields["Server-Timing"].encode()])}
    assert told.keys() == {b"page", b"page_cpu"}
    assert told[b"page"] >= 0.02 > told[b"page_cpu"]
