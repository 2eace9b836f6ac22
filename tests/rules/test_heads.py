"""Heads are read strictly, whatever the method, and nothing impossible is waited for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import BadRequestError, VersionError
from proxy.rules.heads import (
    check_unfinished,
    parse_fields,
    parse_request_line,
    parse_response_head,
)

GOOD_BLOCKS = [
    (b"\r\n", []),
    (b"A: b\r\n\r\n", [(b"A", b"b")]),
    (b"A:b\r\nA: c\r\n\r\n", [(b"A", b"b"), (b"A", b"c")]),
    (b"A: b c \t\r\n\r\n", [(b"A", b"b c")]),
    (b"A:\r\n\r\n", [(b"A", b"")]),
    (b"A:  \t\r\n\r\n", [(b"A", b"")]),
    (b"X-caf: \xc3\xa9\r\n\r\n", [(b"X-caf", b"\xc3\xa9")]),
    (b"!#$%&'*+-.^_`|~1a: x\r\n\r\n", [(b"!#$%&'*+-.^_`|~1a", b"x")]),
    (b"Transfer-Encoding: chunked\r\n\r\n", [(b"Transfer-Encoding", b"chunked")]),
    (b"Connection: close\r\n\r\n", [(b"Connection", b"close")]),
    (
        b"Connection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        [(b"Connection", b"upgrade"), (b"Upgrade", b"websocket")],
    ),
]

# RFC 9112 §2.2, §5, §5.1, §5.2, §6.3; RFC 9110 §5.5.
BAD_BLOCKS = [
    b"A : b\r\n\r\n",
    b"A: b\n\r\n",
    b"A: b\r\n\n",
    b"A: b\rc\r\n\r\n",
    b"A: b\r\n c\r\n\r\n",
    b"A: b\r\n\tc\r\n\r\n",
    b" A: b\r\n\r\n",
    b": b\r\n\r\n",
    b"A\r\n\r\n",
    b"A: \x00\r\n\r\n",
    b"A: \x7f\r\n\r\n",
    b"A: \x01\r\n\r\n",
    b"A(: b\r\n\r\n",
    b"A\xff: b\r\n\r\n",
    b"A b: c\r\n\r\n",
    b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n",
    b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
    b"Content-Length: 5, 5\r\n\r\n",
    b"Content-Length: +5\r\n\r\n",
    b"Content-Length: -5\r\n\r\n",
    b"Content-Length: 0x5\r\n\r\n",
    b"Content-Length: 5 5\r\n\r\n",
    b"Content-Length:\r\n\r\n",
    b"Content-Length: 99999999999999999999999\r\n\r\n",
    b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
    b"A: b\r\n",
    b"A: b\r\n\r\nB: c\r\n\r\n",
    b"",
]


@pytest.mark.parametrize(("block", "lines"), GOOD_BLOCKS)
def test_field_lines_are_kept_as_they_came(block: bytes, lines: list[tuple[bytes, bytes]]) -> None:
    assert parse_fields(block).lines == lines


@pytest.mark.parametrize("block", BAD_BLOCKS)
def test_a_malformed_block_is_refused_and_the_next_one_is_read(block: bytes) -> None:
    with pytest.raises(BadRequestError):
        parse_fields(block)
    assert parse_fields(b"A: b\r\n\r\n").lines == [(b"A", b"b")]


@pytest.mark.parametrize(("block", "lines"), GOOD_BLOCKS)
def test_no_block_changes_how_the_next_one_is_read(
    block: bytes, lines: list[tuple[bytes, bytes]]
) -> None:
    parse_fields(block)
    assert parse_fields(block).lines == lines


@pytest.mark.parametrize("name", [b"Connection", b"Proxy-Connection", b"Upgrade", b"Trailer"])
@pytest.mark.parametrize("value", [b"close", b"CLOSE", b"x, close", b"upgrade", b"keep-alive", b""])
def test_no_field_of_one_message_ends_the_reading_of_others(name: bytes, value: bytes) -> None:
    parse_fields(b"%b: %b\r\nConnection: upgrade\r\n\r\n" % (name, value))
    parse_fields(b"%b: %b\r\n\r\n" % (name, value))
    assert parse_fields(b"A: b\r\n\r\n").lines == [(b"A", b"b")]


NAMES = st.from_regex(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,20}", fullmatch=True).filter(
    lambda name: name.lower() not in {b"content-length", b"transfer-encoding"}
)
VALUES = st.from_regex(
    rb"[\x21-\x7e\x80-\xff]([\x20-\x7e\x80-\xff\t]{0,20}[\x21-\x7e])?", fullmatch=True
)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=20))
def test_parsing_undoes_writing(lines: list[tuple[bytes, bytes]]) -> None:
    block = b"".join(b"%b: %b\r\n" % line for line in lines) + b"\r\n"
    assert parse_fields(block).lines == lines
    assert parse_fields(block).lines == lines  # and leaves the parser ready for another


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"GET / HTTP/1.1", (b"GET", b"/", 1)),
        (b"GET / HTTP/1.0", (b"GET", b"/", 0)),
        (b"GET / HTTP/1.2", (b"GET", b"/", 1)),
        (b"PURGE /a?b HTTP/1.1", (b"PURGE", b"/a?b", 1)),
        (b"M-SEARCH * HTTP/1.1", (b"M-SEARCH", b"*", 1)),
        (b"any!#$%&'*+-.^_`|~token / HTTP/1.1", (b"any!#$%&'*+-.^_`|~token", b"/", 1)),
    ],
)
def test_any_method_token_passes(line: bytes, expected: tuple[bytes, bytes, int]) -> None:
    assert parse_request_line(line) == expected


@pytest.mark.parametrize(
    "line",
    [
        b"GET /",
        b"GET  / HTTP/1.1",
        b"GET / HTTP/1.1 ",
        b" GET / HTTP/1.1",
        b"GET /\tHTTP/1.1",
        b"GET / a HTTP/1.1",
        b"GET / http/1.1",
        b"GET / HTTP/1",
        b"GET / HTTP/1.10",
        b"GET / HTTP/1.x",
        b"GE(T / HTTP/1.1",
        b"G\xc3\x89T / HTTP/1.1",
        b"/ HTTP/1.1",
        b"",
        b"GET /\nHTTP/1.1",
    ],
)
def test_a_malformed_request_line_is_refused(line: bytes) -> None:
    with pytest.raises(BadRequestError):
        parse_request_line(line)


@pytest.mark.parametrize(
    "line", [b"PRI * HTTP/2.0", b"GET / HTTP/3.0", b"GET / HTTP/0.9", b"GET / HTTP/2"]
)
def test_another_version_is_named_as_such(line: bytes) -> None:
    with pytest.raises(VersionError):
        parse_request_line(line)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"HTTP/1.1 200 OK", (1, 200, b"OK")),
        (b"HTTP/1.0 404 Not Found", (0, 404, b"Not Found")),
        (b"HTTP/1.1 999 ", (1, 999, b"")),
        (b"HTTP/1.1 299", (1, 299, b"")),
    ],
)
def test_any_status_of_three_digits_passes(line: bytes, expected: tuple[int, int, bytes]) -> None:
    head = parse_response_head(line + b"\r\nA: b\r\n\r\n")
    assert head[:3] == expected


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/2.0 200 OK",
        b"HTTP/1.1  200 OK",
        b"200 OK",
        b"",
        b"HTTP/1.1 099 X",
        b"HTTP/1.1 200 O\x00K",
        b"ICY 200 OK",
    ],
)
def test_a_malformed_status_line_is_refused(line: bytes) -> None:
    with pytest.raises(BadRequestError):
        parse_response_head(line + b"\r\n\r\n")


@pytest.mark.parametrize(
    "data",
    [b"\x16\x03\x01", b"GET / HTTP/1.1\n", b"GET /\x00", b"GET / HTTP/1.1\r\nA: b\rc", b"\n"],
)
def test_what_cannot_become_a_head_is_refused_at_once(data: bytes) -> None:
    with pytest.raises(BadRequestError):
        check_unfinished(data, 0)


@pytest.mark.parametrize("data", [b"GET / HTTP/1.1\r", b"GET / HTTP/1.1\r\nA:\tb", b"", b"G"])
def test_what_may_still_become_a_head_is_waited_for(data: bytes) -> None:
    check_unfinished(data, 0)


def test_a_line_feed_that_comes_alone_is_judged_by_the_byte_before_it() -> None:
    check_unfinished(b"GET / HTTP/1.1\r\n", 15)
    with pytest.raises(BadRequestError):
        check_unfinished(b"GET / HTTP/1.1\n", 14)
