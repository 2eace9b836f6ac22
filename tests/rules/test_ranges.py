"""Range requests. RFC 9110 §14."""

from email import message_from_bytes
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.rules.ranges import (
    COALESCE_GAP_BYTES,
    MAX_RANGES,
    MAX_REVERSALS,
    Span,
    content_range,
    multipart_heads,
    parse_range,
    unsatisfied_range,
)

N = 10_000


@pytest.mark.parametrize(
    ("value", "spans"),
    [
        # the examples of §14.1.2
        (b"bytes=0-499", [(0, 500)]),
        (b"bytes=500-999", [(500, 1000)]),
        (b"bytes=-500", [(9500, 10_000)]),
        (b"bytes=9500-", [(9500, 10_000)]),
        (b"bytes=0-0,-1", [(0, 1), (9999, 10_000)]),
        (b"bytes= 0-999, 4500-5499, -1000", [(0, 1000), (4500, 5500), (9000, 10_000)]),
        (b"bytes=500-600,601-999", [(500, 1000)]),
        (b"bytes=500-700,601-999", [(500, 1000)]),
        # past the end
        (b"bytes=0-", [(0, 10_000)]),
        (b"bytes=9999-99999", [(9999, 10_000)]),
        (b"bytes=-99999", [(0, 10_000)]),
        (b"bytes=0-1,10000-", [(0, 2)]),
        # the unit in any case, empty elements
        (b"Bytes=0-1", [(0, 2)]),
        (b"bytes=,0-1,, ,2000-2001,", [(0, 2), (2000, 2002)]),
        # in the order asked for
        (b"bytes=5000-5001,0-1", [(5000, 5002), (0, 2)]),
        # coalesced where the first one of them stood
        (b"bytes=5000-5001,100-199,50-99", [(5000, 5002), (50, 200)]),
        (b"bytes=0-99,100-199,200-299", [(0, 300)]),
    ],
)
def test_satisfiable_ranges(value: bytes, spans: list[tuple[int, int]]) -> None:
    assert parse_range(value, N) == spans


@pytest.mark.parametrize(
    "value",
    [b"bytes=10000-", b"bytes=10000-10001", b"bytes=-0", b"bytes=99999-,20000-30000"],
)
def test_no_satisfiable_range_is_a_416(value: bytes) -> None:
    assert parse_range(value, N) == []


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"bytes",
        b"bytes=",
        b"bytes=,",
        b"bytes=-",
        b"bytes=a-b",
        b"bytes=1",
        b"bytes=5-1",
        b"bytes=20000-10000",
        b"bytes=0-1,5-1",
        b"bytes=0-1;2-3",
        b"bytes=0 - 1",
        b"bytes=+0-1",
        b"bytes=--1",
        b"bytes=0x0-1",
        b"bytes=\xd9\xa0-1",
        b"bytes=0-1,bytes=2-3",
        b"bytes=" + b"9" * 5000 + b"-",
        b"bytes =0-1",
        b"items=0-1",
        b"lines=0-1",
    ],
)
def test_malformed_and_unknown_ranges_are_ignored(value: bytes) -> None:
    assert parse_range(value, N) is None


@pytest.mark.parametrize(
    ("value", "answer"), [(b"bytes=0-", []), (b"bytes=0-0", []), (b"bytes=-1", None)]
)
def test_an_empty_representation(value: bytes, answer: list[Span] | None) -> None:
    assert parse_range(value, 0) == answer


def spread(count: int) -> list[bytes]:
    return [b"%d-%d" % (place * 1000, place * 1000) for place in range(count)]


def test_as_many_ranges_as_allowed_are_given_in_ascending_order() -> None:
    assert len(parse_range(b"bytes=" + b",".join(spread(MAX_RANGES)), 10**6) or []) == MAX_RANGES


def test_one_range_more_is_refused() -> None:
    assert parse_range(b"bytes=" + b",".join(spread(MAX_RANGES + 1)), 10**6) == []


def test_many_ranges_in_no_order_are_refused() -> None:
    wanted = b",".join(reversed(spread(MAX_REVERSALS + 1)))
    assert len(parse_range(b"bytes=" + wanted, 10**6) or []) == MAX_REVERSALS + 1
    wanted = b",".join(reversed(spread(MAX_REVERSALS + 2)))
    assert parse_range(b"bytes=" + wanted, 10**6) == []


@pytest.mark.parametrize(
    "value",
    [
        b"bytes=0-99,50-149,100-199",
        b"bytes=0-,0-,0-",
        b"bytes=0-9,5-14,1000-1009,1005-1014",
        b"bytes=0-999,10-19,500-509",
    ],
)
def test_more_than_two_overlapping_ranges_are_refused(value: bytes) -> None:
    assert parse_range(value, N) == []


def test_the_ranges_of_the_apache_killer_are_refused() -> None:
    value = b"bytes=0-" + b"".join(b",5-%d" % last for last in range(5, 1300))
    assert parse_range(value, N) == []


def test_content_range_counts_the_last_byte_in() -> None:
    assert content_range(Span(0, 500), 1234) == b"bytes 0-499/1234"
    assert unsatisfied_range(47_022) == b"bytes */47022"


def test_parts_can_be_read_by_somebody_else() -> None:
    content = bytes(range(256)) * 4
    spans = [Span(0, 10), Span(500, 700)]
    heads = multipart_heads(spans, len(content), b"text/plain", b"XYZ")
    body = heads[0] + content[0:10] + heads[1] + content[500:700] + heads[2]
    parsed = message_from_bytes(b"Content-Type: multipart/byteranges; boundary=XYZ\r\n\r\n" + body)
    assert body.startswith(b"--XYZ\r\n")
    assert [part["Content-Range"] for part in parsed.get_payload()] == [  # type: ignore[index]
        "bytes 0-9/1024",
        "bytes 500-699/1024",
    ]


SPECS = st.one_of(
    st.tuples(st.integers(0, 3000), st.integers(0, 3000)).map(lambda pair: b"%d-%d" % pair),
    st.integers(0, 3000).map(lambda first: b"%d-" % first),
    st.integers(0, 3000).map(lambda suffix: b"-%d" % suffix),
)


@given(st.lists(SPECS, min_size=1, max_size=30), st.integers(0, 2500))
def test_spans_lie_within_the_representation_and_apart(specs: list[bytes], length: int) -> None:
    spans = parse_range(b"bytes=" + b",".join(specs), length)
    for span in spans or []:
        assert 0 <= span.first < span.stop <= length
    ordered = sorted(spans or [])
    for before, after in pairwise(ordered):
        assert after.first - before.stop >= COALESCE_GAP_BYTES


@given(st.lists(SPECS, min_size=1, max_size=4), st.integers(1, 2500))
def test_every_byte_asked_for_is_given(specs: list[bytes], length: int) -> None:
    spans = parse_range(b"bytes=" + b",".join(specs), length)
    given_bytes = {place for span in spans or [] for place in range(span.first, span.stop)}
    for spec in specs if spans else []:
        alone = parse_range(b"bytes=" + spec, length)
        assert alone is not None
        assert {place for span in alone for place in range(*span)} <= given_bytes


@given(st.binary(max_size=60), st.integers(0, 100))
def test_no_input_raises(ranges: bytes, length: int) -> None:
    parse_range(b"bytes=" + ranges, length)
    parse_range(ranges, length)
