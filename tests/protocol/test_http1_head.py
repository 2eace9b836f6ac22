"""What is remembered of heads changes no answer, and has a bound."""

from collections.abc import Callable
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import (
    BadRequestError,
    HeadersTooLargeError,
    HttpError,
    MethodNotAllowedError,
)
from proxy.message import Request
from proxy.protocol import http1_head
from proxy.protocol.http1_head import (
    BLOCK_BYTES,
    BLOCKS,
    LINE_BYTES,
    REQUESTS,
    persists,
    read_any,
    read_head,
)
from proxy.recent import Recent

# All of a request that its head decides.
SEEN = (
    "authority", "fields", "host", "method", "minor_version", "path", "persistent", "query",
    "route_path", "target",
)  # fmt: skip


def head(path: str, *lines: str) -> bytes:
    return "\r\n".join((f"GET {path} HTTP/1.1", "Host: h", *lines, "", "")).encode()


def test_a_head_that_comes_again_is_not_read_again() -> None:
    once, _ = read_head(head("/again"), 100)
    first, _ = read_head(head("/again"), 100)
    second, length = read_head(head("/again"), 100)
    assert second is first is not once
    assert length == 0


def test_what_came_once_costs_no_memory() -> None:
    held = len(http1_head._requests)
    for number in range(3 * REQUESTS):
        read_head(head(f"/once/{number}"), 100)
        assert len(http1_head._seen) <= REQUESTS
    assert len(http1_head._requests) == held


def test_a_request_with_content_is_never_shared() -> None:
    first, length = read_head(head("/content", "Content-Length: 3"), 100)
    second, _ = read_head(head("/content", "Content-Length: 3"), 100)
    assert length == 3
    assert second is not first


@pytest.mark.parametrize(
    "large", [head("/large", "A: " + "b" * BLOCK_BYTES), head("/" + "l" * LINE_BYTES)]
)
def test_a_large_head_is_not_remembered(large: bytes) -> None:
    requests = [read_head(large, 100)[0] for _ in range(4)]
    assert len(set(map(id, requests))) == 4


def test_what_is_remembered_is_bounded() -> None:
    for number in range(2 * REQUESTS):
        for _ in range(2):
            read_head(head(f"/{number}"), 100)
        assert len(http1_head._requests) <= REQUESTS
    for number in range(3 * BLOCKS):
        read_head(head("/", f"X: {number}"), 100)
        assert len(http1_head._understood) <= BLOCKS


def test_a_head_that_comes_all_the_time_is_read_once_however_many_others_come() -> None:
    read_head(head("/steady"), 100)
    first, _ = read_head(head("/steady"), 100)
    for number in range(2 * REQUESTS):
        for _ in range(2):
            read_head(head(f"/steady/{number}"), 100)
        if not number % 100:
            assert read_head(head("/steady"), 100)[0] is first


def test_requests_for_different_things_share_field_lines_that_are_the_same() -> None:
    first, _ = read_head(head("/a", "X: y"), 100)
    second, _ = read_head(head("/b?c", "X: y"), 100)
    assert first.fields is second.fields


def test_a_request_is_remembered_with_its_own_field_lines_and_version() -> None:
    for _ in range(3):
        for mark in ("a", "b"):
            request, _ = read_head(head("/one", f"X: {mark}"), 100)
            assert request.fields.get(b"x") == mark.encode()
            older, _ = read_head(head("/one", f"X: {mark}").replace(b"P/1.1", b"P/1.0"), 100)
            assert (request.minor_version, older.minor_version) == (1, 0)
            assert (request.persistent, older.persistent) == (True, False)


@pytest.mark.parametrize(
    ("line", "path", "query"),
    [
        (b"GET / HTTP/1.1", b"/", None),
        (b"DELETE /a?b=/./c HTTP/1.1", b"/a", b"b=/./c"),
        (b"GET /a? HTTP/1.9", b"/a", b""),
        (b"GET /a/../b HTTP/1.1", b"/b", None),
        (b"GET /a%7Eb?%7E HTTP/1.1", b"/a~b", b"%7E"),
        (b"GET /.a HTTP/1.1", b"/.a", None),
        (b"GET //h/a HTTP/1.1", b"//h/a", None),
        (b"GET http://other:81/a HTTP/1.1", b"/a", None),
        (b"GET /a HTTP/1.0", b"/a", None),
    ],
)
def test_all_forms_of_a_request_line_are_read_alike(
    line: bytes, path: bytes, query: bytes | None
) -> None:
    whole = line + b"\r\nHost: H:80\r\n\r\n"
    for request in (read_head(whole, 100)[0], read_any(line, b"Host: H:80\r\n\r\n", 100)[0]):
        assert (request.path, request.query) == (path, query)
        assert request.target == line.split()[1]
        assert request.minor_version == (0 if line.endswith(b"0") else 1)
        assert request.host == (b"other" if b"//other" in line else b"h")
        assert request.persistent is not line.endswith(b"0")


PIECES = [
    b"/",
    b".",
    b"..",
    b"//",
    b"?",
    b"#",
    b"%",
    b"%2e",
    b"a",
    b"@",
    b":",
    b"\\",
    b" ",
    b"\x7f",
    b"\xe9",
]


@given(
    method=st.sampled_from([b"GET", b"CONNECT", b"PRI", b"x!", b"G(T", b""]),
    pieces=st.lists(st.sampled_from(PIECES) | st.binary(max_size=2), max_size=8),
    version=st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/1.7", b"HTTP/2.0", b"http/1.1"]),
)
def test_a_plain_request_line_is_read_as_any_other(
    method: bytes, pieces: list[bytes], version: bytes
) -> None:
    line = b"%b /%b %b" % (method, b"".join(pieces).replace(b"\n", b""), version)
    whole = line + b"\r\nHost: h\r\n\r\n"

    def slowly() -> tuple[Request, int]:
        request, known = read_any(line, b"Host: h\r\n\r\n", 100)
        return request, known.length

    def read(function: Callable[[], tuple[Request, int]]) -> object:
        try:
            request, length = function()
        except HttpError as error:
            return type(error)
        return [length, *(getattr(request, name) for name in SEEN)]

    with patch.object(http1_head, "_requests", Recent(REQUESTS)):
        for _ in range(3):
            assert read(lambda: read_head(whole, 100)) == read(slowly)


@pytest.mark.parametrize("target", [b"h:443", b"/a"])
def test_connect_is_refused(target: bytes) -> None:
    with pytest.raises(MethodNotAllowedError):
        read_head(b"CONNECT %b HTTP/1.1\r\nHost: h:443\r\n\r\n" % target, 100)


def test_a_smaller_limit_holds_for_field_lines_that_are_remembered() -> None:
    read_head(head("/many", "A: b"), 100)
    with pytest.raises(HeadersTooLargeError):
        read_head(head("/more", "A: b"), 1)


def test_a_malformed_head_is_refused_each_time() -> None:
    for _ in range(2):
        with pytest.raises(BadRequestError):
            read_head(b"GET / HTTP/1.1\r\n\r\n", 100)


@pytest.mark.parametrize(
    ("minor", "connection", "kept"),
    [
        (1, None, True),
        (1, b"keep-alive", True),
        (1, b"close", False),
        (1, b"x, Close", False),
        (0, None, False),
        (0, b"Keep-Alive", True),
        (0, b"keep-alive, close", False),
    ],
)
def test_a_connection_persists_as_rfc_9112_section_9_3_says(
    minor: int, connection: bytes | None, kept: bool
) -> None:
    assert persists(minor, connection) is kept
