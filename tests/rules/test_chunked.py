"""A chunked body ends where every strict reader sees its end, or is refused. RFC 9112 §7.1."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import BadRequestError
from proxy.message import FieldLine, Fields
from proxy.rules.chunked import EXTENSION_BYTES, ChunkedDecoder, encode_chunk, last_chunk

LINE_BYTES = 256
TRAILER_BYTES = 256


def decode(
    data: bytes, cuts: tuple[int, ...] = ()
) -> tuple[list[bytes], bytes | None, list[FieldLine]]:
    """Feed `data` cut at `cuts`; what is behind the end is given back as one."""
    decoder = ChunkedDecoder(LINE_BYTES, TRAILER_BYTES)
    pieces: list[bytes] = []
    edges = [0, *sorted(cuts), len(data)]
    for start, stop in pairwise(edges):
        new, rest = decoder.decode(data[start:stop])
        pieces += new
        if rest is not None:
            return pieces, rest + data[stop:], decoder.trailers.lines
    return pieces, None, decoder.trailers.lines


def every_byte(data: bytes) -> tuple[int, ...]:
    return tuple(range(1, len(data)))


GOOD = [
    (b"0\r\n\r\n", b"", b"", []),
    (b"000\r\n\r\n", b"", b"", []),
    (b"5\r\nhello\r\n0\r\n\r\n", b"hello", b"", []),
    (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world", b"", []),
    (b"0000000000000005\r\nhello\r\n0\r\n\r\nGET", b"hello", b"GET", []),
    (b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2, b"", []),
    (b"2\r\n\r\n\r\n0\r\n\r\n\r\n", b"\r\n", b"\r\n", []),
    # §7.1.1
    (b"1;a\r\nx\r\n0;b=c\r\n\r\n", b"x", b"", []),
    (b'1 ;\ta = b ; c = "d;\\" \xff"\r\nx\r\n0\r\n\r\n', b"x", b"", []),
    (b'1;a=""\r\nx\r\n0\r\n\r\n', b"x", b"", []),
    # §7.1.2
    (b"0\r\nA: b\r\n\r\n", b"", b"", [(b"A", b"b")]),
    (b"0\r\nA: b\r\nC:d \r\n\r\nX", b"", b"X", [(b"A", b"b"), (b"C", b"d")]),
]

BAD = [
    b"\r\n",
    b"\n",
    b";a\r\n",
    b"g\r\n",
    b"-1\r\nx\r\n0\r\n\r\n",
    b"+1\r\nx\r\n0\r\n\r\n",
    b"0x1\r\nx\r\n0\r\n\r\n",
    b"1_0\r\n",
    b" 1\r\n",
    b"1 \r\n",
    b"1 1\r\n",
    b"1,1\r\n",
    b"\xd9\xa1\r\n",
    b"00000000000000001\r\nx\r\n",
    b"1\nx\r\n0\r\n\r\n",
    b"1\rx\r\n0\r\n\r\n",
    b"1\r\r\nx",
    b"1;\r\n",
    b"1;;a\r\n",
    b"1;a=\r\n",
    b"1;=a\r\n",
    b"1;a=b=c\r\n",
    b"1;a b\r\n",
    b'1;a="b\r\n',
    b'1;a="b"c\r\n',
    b'1;a="\\\x01"\r\n',
    b"1;a\nx\r\n0\r\n\r\n",
    b"1;a\rb\r\nx",
    b"1;a\x00\r\n",
    b"1;\xff\r\n",
    b"1\r\nxy\r\n",
    b"1\r\nx\n0\r\n\r\n",
    b"1\r\nx\rY",
    b"1\r\nx0\r\n\r\n",
    b"0\r\n\n",
    b"0\r\n\rX",
    b"0\r\nA: b\n\r\n\r\n",
    b"0\r\nA: b\r\n\n",
    b"0\r\nA : b\r\n\r\n",
    b"0\r\nA\r\n\r\n",
    b"0\r\nA: b\r\n c\r\n\r\n",
    b"0\r\n A: b\r\n\r\n",
    b"0\r\nA: \x00\r\n\r\n",
    b"0\r\nA: b\rc\r\n\r\n",
]


@pytest.mark.parametrize(("data", "content", "rest", "trailers"), GOOD)
def test_a_body_is_read_whole_and_byte_by_byte(
    data: bytes, content: bytes, rest: bytes, trailers: list[FieldLine]
) -> None:
    for cuts in ((), every_byte(data)):
        pieces, behind, fields = decode(data, cuts)
        assert b"".join(pieces) == content
        assert b"" not in pieces
        assert behind == rest
        assert fields == trailers


@pytest.mark.parametrize("data", BAD)
def test_a_malformed_body_is_refused_however_it_comes(data: bytes) -> None:
    for cuts in ((), every_byte(data)):
        with pytest.raises(BadRequestError):
            decode(data, cuts)


@pytest.mark.parametrize("data", [b"x", b"5\rh", b"5;a\x00", b"5;a\n", b"\r", b"0\r\nA: b\rc"])
def test_what_cannot_become_a_body_is_refused_before_its_line_ends(data: bytes) -> None:
    with pytest.raises(BadRequestError):
        decode(data)


@pytest.mark.parametrize("end", range(len(b"5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n")))
def test_an_unfinished_body_has_no_end(end: int) -> None:
    data = b"5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n"[:end]
    assert decode(data)[1:] == (None, [])
    assert decode(data, every_byte(data))[1:] == (None, [])


@given(
    st.lists(st.binary(min_size=1, max_size=40)),
    st.lists(st.sampled_from([(b"A", b"b"), (b"Grpc-Status", b"0"), (b"X", b"")]), max_size=8),
    st.binary(max_size=20),
    st.lists(st.integers(0, 600)),
)
def test_decoding_undoes_encoding_at_any_chunking(
    parts: list[bytes], trailers: list[FieldLine], rest: bytes, cuts: list[int]
) -> None:
    data = b"".join(map(encode_chunk, parts)) + last_chunk(Fields(trailers)) + rest
    pieces, behind, fields = decode(data, tuple(min(cut, len(data)) for cut in cuts))
    assert b"".join(pieces) == b"".join(parts)
    assert b"" not in pieces
    assert behind == rest
    assert fields == trailers


@given(
    st.lists(st.sampled_from([b"1", b"\r\n", b"\r", b"\n", b"0", b";a", b"x", b"A: b", b" "])),
    st.lists(st.integers(0, 60)),
)
def test_any_chunking_of_any_bytes_means_the_same(parts: list[bytes], cuts: list[int]) -> None:
    data = b"".join(parts)
    results = []
    for way in ((), tuple(min(cut, len(data)) for cut in cuts)):
        try:
            pieces, behind, fields = decode(data, way)
            results.append((b"".join(pieces), behind, fields))
        except BadRequestError:
            results.append((b"refused", None, []))
    assert results[0] == results[1]


def test_a_piece_that_is_all_content_is_not_copied() -> None:
    decoder = ChunkedDecoder(LINE_BYTES, TRAILER_BYTES)
    decoder.decode(b"fffff\r\n")
    data = b"x" * 65536
    pieces, rest = decoder.decode(data)
    assert pieces[0] is data
    assert rest is None


def test_a_chunk_may_be_larger_than_any_memory() -> None:
    decoder = ChunkedDecoder(LINE_BYTES, TRAILER_BYTES)
    assert decoder.decode(b"ffffffffffffffff\r\nx") == ([b"x"], None)


@pytest.mark.parametrize("end", [b"", b"\r\n"])
def test_a_chunk_line_is_bounded(end: bytes) -> None:
    fits = b"1;" + b"a" * (LINE_BYTES - 4) + b"\r\n"
    assert decode(fits)[1] is None
    too_long = b"1;" + b"a" * (LINE_BYTES - 1 - len(end)) + end
    for cuts in ((), every_byte(too_long)):
        with pytest.raises(BadRequestError, match="chunk line of over"):
            decode(too_long, cuts)


def test_all_extensions_of_a_body_are_bounded() -> None:
    chunk = b"1;" + b"a" * 127 + b"\r\nx\r\n"
    fits = chunk * (EXTENSION_BYTES // 128)
    assert decode(fits)[1] is None
    with pytest.raises(BadRequestError, match="chunk extensions of over"):
        decode(fits + b"1;a\r\n")


@pytest.mark.parametrize("end", [b"", b"\r\n\r\n"])
def test_trailers_are_bounded(end: bytes) -> None:
    fits = b"0\r\nA: " + b"b" * (TRAILER_BYTES - 7) + b"\r\n\r\n"
    assert decode(fits)[1] == b""
    too_long = b"0\r\nA: " + b"b" * (TRAILER_BYTES - 2 - len(end)) + end
    for cuts in ((), every_byte(too_long)):
        with pytest.raises(BadRequestError, match="trailers of over"):
            decode(too_long, cuts)


def test_what_follows_a_body_does_not_count_as_its_trailers() -> None:
    data = b"0\r\nA: b\r\n\r\n"
    assert decode(data + b"x" * 1000, (4,))[1] == b"x" * 1000


# RFC 9110 §6.5.1.
@pytest.mark.parametrize(
    "name",
    [b"Transfer-Encoding", b"Host", b"Set-Cookie", b"Authorization", b"Content-Type", b"x-real-IP"],
)
def test_a_trailer_that_would_change_a_judged_message_is_dropped(name: bytes) -> None:
    data = b"0\r\n%b: x\r\nGrpc-Status: 0\r\n\r\n" % name
    assert decode(data)[2] == [(b"Grpc-Status", b"0")]


def test_chunks_are_written_as_they_are_read() -> None:
    assert encode_chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert last_chunk(None) == b"0\r\n\r\n"
    assert last_chunk(Fields()) == b"0\r\n\r\n"
    assert last_chunk(Fields([(b"A", b"b")])) == b"0\r\nA: b\r\n\r\n"


@pytest.mark.parametrize("name", [b"X_Forwarded_For", b"X-Forwarded-User", b"content_length"])
def test_a_trailer_cannot_say_in_other_letters_what_it_may_not_say(name: bytes) -> None:
    decoder = ChunkedDecoder(4096, 8192)
    assert decoder.decode(b"0\r\n%b: x\r\nA: b\r\n\r\n" % name) == ([], b"")
    assert decoder.trailers.lines == [(b"A", b"b")]
