"""What is remembered of heads changes no answer, and has a bound."""

import pytest

from proxy.errors import BadRequestError
from proxy.protocol import http1_head
from proxy.protocol.http1_head import REMEMBERED, REMEMBERED_BYTES, persists, read_head


def head(path: str, *lines: str) -> bytes:
    return "\r\n".join((f"GET {path} HTTP/1.1", "Host: h", *lines, "", "")).encode()


def test_a_head_that_comes_again_is_not_read_again() -> None:
    first, _ = read_head(head("/again"), 100)
    second, length = read_head(head("/again"), 100)
    assert second is first
    assert length == 0


def test_a_request_with_content_is_never_shared() -> None:
    first, length = read_head(head("/content", "Content-Length: 3"), 100)
    second, _ = read_head(head("/content", "Content-Length: 3"), 100)
    assert length == 3
    assert second is not first


def test_a_large_head_is_not_remembered() -> None:
    large = head("/large", "A: " + "b" * REMEMBERED_BYTES)
    assert read_head(large, 100)[0] is not read_head(large, 100)[0]


def test_what_is_remembered_is_bounded() -> None:
    for number in range(3 * REMEMBERED):
        read_head(head(f"/{number}"), 100)
        assert len(http1_head._remembered) <= REMEMBERED


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
