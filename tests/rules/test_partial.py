"""Parts of answers, and how they become one. RFC 9111 §3.3, §3.4, RFC 9110 §14, §15.3.7."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.message import FieldLine, Fields, Request
from proxy.rules.dates import format_date
from proxy.rules.partial import (
    MAX_SPANS,
    ContentRange,
    Cut,
    Part,
    Piece,
    combined,
    completing_fields,
    first_slice,
    joined,
    may_answer,
    missing,
    pieces,
    range_to_serve,
    read_content_range,
    read_unsatisfied,
    received_part,
    same_whole,
    slice_range,
    slice_size,
    slices_for,
)
from proxy.rules.ranges import Span, content_range, unsatisfied_range

MODIFIED = 784_111_777
NOW = MODIFIED + 1000
LAST_MODIFIED = (b"Last-Modified", format_date(MODIFIED))
DATED = (b"Date", format_date(MODIFIED + 500))
DATED_AT_ONCE = (b"Date", format_date(MODIFIED))
TAG = (b"ETag", b'"a"')


@pytest.mark.parametrize(
    ("value", "first", "stop", "size"),
    [
        (b"bytes 0-499/1234", 0, 500, 1234),
        (b"bytes 734-1233/1234", 734, 1234, 1234),
        (b"bytes 42-1233/*", 42, 1234, None),
        (b"Bytes 0-0/1", 0, 1, 1),
        (b"bytes 00-01/02", 0, 2, 2),
    ],
)
def test_content_range(value: bytes, first: int, stop: int, size: int | None) -> None:
    assert read_content_range(value) == ContentRange(Span(first, stop), size)


@pytest.mark.parametrize(
    "value",
    [
        None,
        # §14.4: the last position before the first, a length not beyond the last
        b"bytes 5-4/10",
        b"bytes 0-10/10",
        b"bytes 0-10/5",
        # a unit that is not understood
        b"items 0-4/10",
        b"bytes */10",
        b"",
        b"bytes",
        b"bytes=0-4/10",
        b"bytes 0-4",
        b"bytes 0-4/",
        b"bytes  0-4/10",
        b"bytes 0-4/10 ",
        b"bytes 0 - 4/10",
        b"bytes -4/10",
        b"bytes +0-4/10",
        b"bytes 0-4/10, bytes 5-9/10",
        b"bytes 0-" + b"9" * 19 + b"/*",
    ],
)
def test_an_invalid_content_range_is_none(value: bytes | None) -> None:
    assert read_content_range(value) is None


@pytest.mark.parametrize(
    ("value", "size"),
    [(b"bytes */1234", 1234), (b"bytes 0-1/2", None), (b"bytes */*", None), (None, None)],
)
def test_the_length_that_a_416_tells(value: bytes | None, size: int | None) -> None:
    assert read_unsatisfied(value) == size


@given(st.integers(0, 10**6), st.integers(1, 10**6), st.integers(0, 10**6))
def test_reading_undoes_writing(first: int, count: int, more: int) -> None:
    span, size = Span(first, first + count), first + count + more
    assert read_content_range(content_range(span, size)) == ContentRange(span, size)
    assert read_unsatisfied(unsatisfied_range(size)) == size


def at(first: int, stop: int, size: int = 100) -> FieldLine:
    return (b"Content-Range", content_range(Span(first, stop), size))


def length(count: int) -> FieldLine:
    return (b"Content-Length", b"%d" % count)


@pytest.mark.parametrize(
    ("status", "lines", "received_bytes", "span", "size"),
    [
        # §3.3: an incomplete 200
        (200, [length(100)], 40, (0, 40), 100),
        (200, [], 40, (0, 40), None),
        # a 206 as if it were one, complete or broken off
        (206, [at(10, 20), length(10)], 10, (10, 20), 100),
        (206, [at(10, 20), length(10)], 4, (10, 14), 100),
        (206, [at(10, 20)], 10, (10, 20), 100),
        (206, [(b"Content-Range", b"bytes 10-19/*")], 10, (10, 20), None),
    ],
)
def test_what_an_answer_gave(
    status: int,
    lines: list[FieldLine],
    received_bytes: int,
    span: tuple[int, int],
    size: int | None,
) -> None:
    part = received_part(status, Fields(lines), received_bytes)
    assert part == Part(status, Fields(lines), (Span(*span),), size)


@pytest.mark.parametrize(
    ("status", "lines", "received_bytes"),
    [
        (200, [length(100)], 0),
        (200, [length(100)], 101),
        (200, [length(-1)], 1),
        (200, [length(100), length(100)], 1),
        (404, [length(100)], 40),
        # RFC 9110 §15.3.7: what is enclosed must be known
        (206, [length(10)], 10),
        (206, [(b"Content-Type", b"multipart/byteranges; boundary=x")], 10),
        (206, [(b"Content-Range", b"items 10-19/100")], 10),
        (206, [at(10, 20), length(11)], 10),
        (206, [at(10, 20), length(9)], 9),
        (206, [at(10, 20)], 11),
        (206, [at(10, 20), at(10, 20)], 10),
    ],
)
def test_what_cannot_be_kept_as_a_part(
    status: int, lines: list[FieldLine], received_bytes: int
) -> None:
    assert received_part(status, Fields(lines), received_bytes) is None


def part(*spans: tuple[int, int], status: int = 206, size: int | None = 100,
         lines: tuple[FieldLine, ...] = (TAG,)) -> Part:  # fmt: skip
    return Part(status, Fields(lines), tuple(Span(*span) for span in spans), size)


@pytest.mark.parametrize(
    ("stored", "new", "status", "spans", "complete"),
    [
        # the union of the ranges; a 200 when it is a prefix of the whole, complete or not
        (part((0, 10)), part((10, 20)), 200, [(0, 20)], False),
        (part((0, 10)), part((5, 20)), 200, [(0, 20)], False),
        (part((0, 10)), part((11, 20)), 206, [(0, 10), (11, 20)], False),
        (part((10, 20)), part((20, 30)), 206, [(10, 30)], False),
        (part((0, 60)), part((60, 100)), 200, [(0, 100)], True),
        (part((0, 60), (70, 100)), part((60, 70)), 200, [(0, 100)], True),
        (part((0, 60), status=200), part((60, 100)), 200, [(0, 100)], True),
        (part((50, 60)), part((0, 100), status=200), 200, [(0, 100)], True),
        # a length that one of them knows
        (part((0, 60), size=None), part((60, 100)), 200, [(0, 100)], True),
        (part((0, 60)), part((60, 100), size=None), 200, [(0, 100)], True),
        (part((0, 60), size=None), part((60, 100), size=None), 200, [(0, 100)], False),
    ],
)
def test_parts_of_one_thing_are_combined(
    stored: Part, new: Part, status: int, spans: list[tuple[int, int]], complete: bool
) -> None:
    both = combined(stored, new, NOW)
    assert both is not None
    assert (both.status, list(both.spans), both.complete) == (status, spans, complete)


def alike(*lines: FieldLine) -> tuple[Part, Part]:
    return part((0, 10), lines=lines), part((10, 20), lines=lines)


@pytest.mark.parametrize(
    ("stored", "new"),
    [
        # RFC 9110 §15.3.7.3: the same strong validator
        (part((0, 10)), part((10, 20), lines=((b"ETag", b'"b"'),))),
        (part((0, 10)), part((10, 20), lines=((b"ETag", b'W/"a"'),))),
        (part((0, 10)), part((10, 20), lines=(LAST_MODIFIED, DATED))),
        (part((0, 10)), part((10, 20), lines=())),
        (part((0, 10), lines=()), part((10, 20))),
        alike(),
        alike((b"ETag", b'W/"a"')),
        alike((b"ETag", b'W/"a"'), LAST_MODIFIED, DATED),
        alike(LAST_MODIFIED),
        alike(LAST_MODIFIED, DATED_AT_ONCE),
        # one length
        (part((0, 10)), part((10, 20), size=99)),
        (part((0, 99), size=None), part((0, 50), size=50)),
    ],
)
def test_parts_of_different_things_are_not(stored: Part, new: Part) -> None:
    assert combined(stored, new, NOW) is None


def test_a_strong_date_makes_parts_of_one_thing() -> None:
    stored, new = alike(LAST_MODIFIED, DATED)
    assert combined(stored, new, NOW) is not None


def test_more_holes_than_a_download_has_are_not_kept() -> None:
    scattered = part(*((place * 10, place * 10 + 1) for place in range(MAX_SPANS)), size=None)
    assert combined(scattered, part((1, 2), size=None), NOW) is not None
    assert combined(scattered, part((5, 6), size=None), NOW) is None


def test_the_fields_of_parts_are_updated_by_the_newer_one() -> None:
    stored = part((0, 10), lines=(TAG, (b"A", b"1"), (b"B", b"1"), at(0, 10), length(10)))
    new = part((10, 20), lines=(TAG, (b"B", b"2"), at(10, 20), length(10)))
    both = combined(stored, new, NOW)
    assert both is not None
    assert both.fields.lines == [(b"A", b"1"), TAG, (b"B", b"2")]


def test_the_fields_of_a_newer_200_replace_those_of_parts() -> None:
    stored = part((0, 10), lines=(TAG, (b"A", b"1"), at(0, 10)))
    new = part((0, 40), status=200, lines=(TAG, (b"B", b"2"), length(100)))
    both = combined(stored, new, NOW)
    assert both is not None
    assert both.fields.lines == [TAG, (b"B", b"2")]


@pytest.mark.parametrize(
    ("held", "asked", "answers"),
    [
        (part((10, 20)), [(10, 20)], True),
        (part((10, 20)), [(12, 13), (19, 20)], True),
        # §3.3: a range wholly within, or nothing
        (part((10, 20)), [(10, 21)], False),
        (part((10, 20)), [(9, 20)], False),
        (part((10, 20)), [(12, 13), (30, 31)], False),
        (part((0, 50)), [(0, 100)], False),
        (part((0, 100)), [(0, 100)], True),
        (part((0, 10), (20, 30)), [(5, 25)], False),
        # without the length nothing can be said about the place of a range
        (part((10, 20), size=None), [(10, 20)], False),
    ],
)
def test_what_a_part_may_answer(held: Part, asked: list[tuple[int, int]], answers: bool) -> None:
    assert may_answer(held, [Span(*span) for span in asked]) is answers


@pytest.mark.parametrize(
    ("held", "lines"),
    [
        # RFC 9111 §4.3.1, RFC 9110 §13.1.5
        (part((0, 60)), [(b"Range", b"bytes=60-99"), (b"If-Range", b'"a"')]),
        (part((0, 60), size=None), [(b"Range", b"bytes=60-"), (b"If-Range", b'"a"')]),
        (part((10, 60), (70, 80)), [(b"Range", b"bytes=0-9"), (b"If-Range", b'"a"')]),
        (part((0, 60), (70, 80)), [(b"Range", b"bytes=60-69"), (b"If-Range", b'"a"')]),
        (part((5, 60), size=None), [(b"Range", b"bytes=0-4"), (b"If-Range", b'"a"')]),
        (
            part((0, 60), lines=(LAST_MODIFIED, DATED)),
            [(b"Range", b"bytes=60-99"), (b"If-Range", LAST_MODIFIED[1])],
        ),
        (part((0, 60), lines=(LAST_MODIFIED,)), []),
        (part((0, 60), lines=((b"ETag", b'W/"a"'),)), []),
        (part((0, 100)), []),
    ],
)
def test_asking_for_what_is_missing(held: Part, lines: list[FieldLine]) -> None:
    assert completing_fields(held, NOW) == lines


class Stored:
    def __init__(self, *lines: FieldLine, status: int = 200) -> None:
        self.status = status
        self.fields = Fields(lines)
        self.etag = self.fields.get(b"etag")
        self.last_modified = self.fields.get(b"last-modified")
        self.response_at = MODIFIED + 0.5


def asks(*lines: FieldLine, method: bytes = b"GET") -> Request:
    return Request(method, b"/", 1, Fields(lines), b"/", None, b"a", b"a")


RANGE = (b"Range", b"bytes=0-9")


@pytest.mark.parametrize(
    ("request_", "entry", "heeded"),
    [
        (asks(RANGE), Stored(TAG), True),
        (asks(RANGE), Stored(), True),
        (asks(RANGE), Stored(TAG, status=206), True),
        (asks(), Stored(TAG), False),
        # RFC 9110 §14.2: GET alone, and what would have been a 200
        (asks(RANGE, method=b"HEAD"), Stored(TAG), False),
        (asks(RANGE), Stored(TAG, status=404), False),
        # §13.1.5, against the chosen answer: RFC 9111 §4.3.2
        (asks(RANGE, (b"If-Range", b'"a"')), Stored(TAG), True),
        (asks(RANGE, (b"If-Range", b'"b"')), Stored(TAG), False),
        (asks(RANGE, (b"If-Range", b'W/"a"')), Stored((b"ETag", b'W/"a"')), False),
        (asks(RANGE, (b"If-Range", LAST_MODIFIED[1])), Stored(LAST_MODIFIED, DATED), True),
        (asks(RANGE, (b"If-Range", DATED[1])), Stored(LAST_MODIFIED, DATED), False),
        # §8.8.2.2: a date that is not a second older than the answer is weak
        (asks(RANGE, (b"If-Range", LAST_MODIFIED[1])), Stored(LAST_MODIFIED, DATED_AT_ONCE), False),
        (asks(RANGE, (b"If-Range", LAST_MODIFIED[1])), Stored(LAST_MODIFIED), False),
        (asks(RANGE, (b"If-Range", LAST_MODIFIED[1])), Stored(DATED), False),
    ],
)
def test_when_a_range_is_heeded(request_: Request, entry: Stored, heeded: bool) -> None:
    assert range_to_serve(request_, entry, NOW) == (RANGE[1] if heeded else None)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (None, 0),
        (b"bytes=0-9", 0),
        (b"bytes=99-", 0),
        (b"bytes=100-", 1),
        (b"bytes=250-260, 0-1", 2),
        (b"Bytes= 250-", 2),
        (b"bytes=-5", 0),
        (b"items=500-", 0),
        (b"bytes=" + b"9" * 30 + b"-", 0),
    ],
)
def test_the_slice_to_begin_with(value: bytes | None, number: int) -> None:
    assert first_slice(value, 100) == number


@pytest.mark.parametrize(
    ("span", "cuts"),
    [
        ((0, 250), [(0, (0, 100)), (1, (0, 100)), (2, (0, 50))]),
        ((0, 100), [(0, (0, 100))]),
        ((99, 101), [(0, (99, 100)), (1, (0, 1))]),
        ((249, 250), [(2, (49, 50))]),
        ((100, 10_000), [(1, (0, 100)), (2, (0, 50))]),
        ((0, 0), []),
        ((120, 120), []),
        ((250, 300), []),
    ],
)
def test_the_slices_of_a_range(
    span: tuple[int, int], cuts: list[tuple[int, tuple[int, int]]]
) -> None:
    expected = [Cut(number, Span(*within)) for number, within in cuts]
    assert list(slices_for(Span(*span), 250, 100)) == expected


@pytest.mark.parametrize(
    ("number", "status", "lines", "whole", "size"),
    [
        (0, 206, [at(0, 100, 250)], None, 250),
        (2, 206, [at(200, 250, 250)], 250, 250),
        (0, 206, [at(0, 30, 30)], None, 30),
        # not the slice, not all of it, not the same whole
        (1, 206, [at(0, 100, 250)], None, None),
        (0, 206, [at(0, 99, 250)], None, None),
        (0, 206, [at(0, 101, 250)], None, None),
        (2, 206, [at(200, 250, 251)], 250, None),
        (2, 206, [at(200, 251, 251)], 250, None),
        (0, 206, [(b"Content-Range", b"bytes 0-99/*")], None, None),
        (0, 206, [], None, None),
        (0, 200, [at(0, 100, 250)], None, None),
        (9, 416, [(b"Content-Range", b"bytes */250")], None, None),
    ],
)
def test_only_the_very_slice_is_taken_as_one(
    number: int, status: int, lines: list[FieldLine], whole: int | None, size: int | None
) -> None:
    assert slice_size(number, 100, status, Fields(lines), whole) == size


def test_a_slice_is_asked_for_by_its_range() -> None:
    assert slice_range(0, 100) == b"bytes=0-99"
    assert slice_range(7, 1 << 20) == b"bytes=7340032-8388607"


def test_slices_of_two_versions_are_not_sent_as_one() -> None:
    a, b = Fields([TAG]), Fields([(b"ETag", b'"b"')])
    assert same_whole(a, a, NOW)
    assert not same_whole(a, b, NOW)
    assert not same_whole(a, Fields(), NOW)
    assert not same_whole(Fields(), Fields(), NOW)


SIZE = 60
SPANS = st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)).map(
    lambda pair: Span(min(pair), max(pair))
)
SOME_SPANS = st.lists(SPANS, max_size=5)


def places(spans: list[Span] | tuple[Span, ...]) -> set[int]:
    return {place for span in spans for place in range(*span)}


@given(SOME_SPANS)
def test_joining_spans_keeps_every_byte_and_adds_none(spans: list[Span]) -> None:
    apart = joined(spans)
    assert places(apart) == places(spans)
    assert all(one.stop < other.first for one, other in pairwise(apart))


@given(SPANS, SOME_SPANS)
def test_what_is_missing_is_what_is_not_held(wanted: Span, held: list[Span]) -> None:
    assert places(missing(wanted, held)) == places([wanted]) - places(held)


@given(SPANS, st.lists(SOME_SPANS, max_size=4))
def test_each_byte_comes_once_from_the_first_part_that_has_it(
    wanted: Span, parts: list[list[Span]]
) -> None:
    found = pieces(wanted, parts)
    held = places([span for spans in parts for span in spans])
    if found is None:
        assert not places([wanted]) <= held
        return
    assert [place for piece in found for place in range(*piece.span)] == list(range(*wanted))
    for piece in found:
        assert places([piece.span]) <= places(parts[piece.part])
        for earlier in parts[: piece.part]:
            assert not places([piece.span]) & places(earlier)


def test_the_newest_part_is_preferred() -> None:
    found = pieces(Span(0, 30), [[Span(10, 20)], [Span(0, 30)]])
    assert found == [Piece(1, Span(0, 10)), Piece(0, Span(10, 20)), Piece(1, Span(20, 30))]


VERSIONS = {
    b'"a"': bytes(range(SIZE)),
    b'"b"': bytes(range(100, 100 + SIZE)),
    b'W/"a"': bytes(range(SIZE)),
}


@given(
    st.lists(
        st.tuples(st.sampled_from(sorted(VERSIONS)), SPANS, st.booleans(), st.booleans()),
        min_size=1,
        max_size=8,
    ),
    SPANS,
)
def test_combining_never_yields_a_byte_of_no_part_nor_of_two_versions(
    messages: list[tuple[bytes, Span, bool, bool]], wanted: Span
) -> None:
    """A cache that keeps what came last, and joins to it what may be joined."""
    stored: Part | None = None
    contents: list[tuple[Span, bytes]] = []
    for etag, asked, whole, size_known in messages:
        span = Span(0, asked.stop) if whole else asked
        lines = [(b"ETag", etag)]
        if not whole:
            size = b"%d" % SIZE if size_known else b"*"
            lines.append((b"Content-Range", b"bytes %d-%d/%b" % (span.first, span.stop - 1, size)))
        content = VERSIONS[etag][slice(*span)]
        new = received_part(200 if whole else 206, Fields(lines), len(content))
        if new is None:
            assert not content
            continue
        both = None if stored is None else combined(stored, new, NOW)
        contents = [(span, content), *contents] if both else [(span, content)]
        stored = both or new
    if stored is None:
        return
    version = VERSIONS[stored.fields.get(b"etag") or b""]
    assert places(stored.spans) == places([span for span, _ in contents])
    assert not (stored.complete and places(stored.spans) != set(range(SIZE)))
    found = pieces(wanted, [[span] for span, _ in contents])
    assert (found is None) is bool(missing(wanted, stored.spans))
    if found is not None:
        sent = b"".join(
            contents[number][1][span.first - contents[number][0].first :][: span.stop - span.first]
            for number, span in found
        )
        assert sent == version[slice(*wanted)]


@given(SPANS, st.integers(1, 25))
def test_slices_give_exactly_the_range(span: Span, slice_bytes: int) -> None:
    content = VERSIONS[b'"a"']
    sent = b"".join(
        content[number * slice_bytes : (number + 1) * slice_bytes][slice(*within)]
        for number, within in slices_for(span, SIZE, slice_bytes)
    )
    assert sent == content[slice(*span)]
