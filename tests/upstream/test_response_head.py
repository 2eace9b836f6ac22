"""What is remembered of response heads changes nothing, and has a bound."""

import pytest

from proxy.errors import BadRequestError
from proxy.upstream import response_head
from proxy.upstream.response_head import REMEMBERED, REMEMBERED_BYTES, read_head


def head(*lines: str, status: int = 200) -> bytes:
    return "\r\n".join((f"HTTP/1.1 {status} X", *lines, "", "")).encode()


def test_a_head_that_comes_again_is_not_read_again() -> None:
    first = read_head(head("Content-Length: 3"), b"GET")
    assert read_head(head("Content-Length: 3"), b"GET").fields is first.fields
    assert first.length == 3


def test_where_a_body_ends_depends_on_the_method_all_the_same() -> None:
    assert read_head(head("Content-Length: 7"), b"GET").length == 7
    assert read_head(head("Content-Length: 7"), b"HEAD").length == 0
    assert read_head(head("Content-Length: 7"), b"GET").length == 7


def test_a_large_head_is_not_remembered() -> None:
    large = head("A: " + "b" * REMEMBERED_BYTES)
    assert read_head(large, b"GET").fields is not read_head(large, b"GET").fields


def test_what_is_remembered_is_bounded() -> None:
    for number in range(3 * REMEMBERED):
        read_head(head(f"A: {number}"), b"GET")
        assert len(response_head._remembered) <= REMEMBERED


def test_a_malformed_head_is_refused_each_time() -> None:
    for _ in range(2):
        with pytest.raises(BadRequestError):
            read_head(head("A : b"), b"GET")
