"""Parts of answers: what is in them, when they fit together, and the slices of large objects.

Pure: `now` is seconds since the epoch. Here are spans, never the bytes themselves; every span is
exact. RFC 9111 §3.3, §3.4, RFC 9110 §14, §15.3.7.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

from proxy.message import FieldLine, Fields, Request
from proxy.rules.conditional import if_range_holds
from proxy.rules.dates import parse_date
from proxy.rules.ranges import Span
from proxy.rules.validation import updated_fields
from proxy.rules.validators import strong_validator, validators_of

# The grammar has no blanks but one. Eighteen digits are more than any object has bytes.
_CONTENT_RANGE = re.compile(rb"bytes (\d{1,18})-(\d{1,18})/(?:(\d{1,18})|\*)", re.IGNORECASE)
_UNSATISFIED = re.compile(rb"bytes \*/(\d{1,18})", re.IGNORECASE)
_LENGTH = re.compile(rb"\d{1,18}")
_FIRST_POSITION = re.compile(rb"bytes=[ \t]*(\d{1,18})-", re.IGNORECASE)

# More holes than this are no download that was broken off; ranges.MAX_RANGES is as many.
MAX_SPANS = 200

# What describes the content of one message. RFC 9110 §15.3.7.3.
_OF_ONE_MESSAGE = frozenset((b"content-length", b"content-range"))


class ContentRange(NamedTuple):
    """The bytes that a 206 carries, and the length of the whole, None while unknown."""

    span: Span
    size: int | None


class Part(NamedTuple):
    """What is known of a representation from one answer, or from several that fit together.

    `spans` are ascending and apart. An incomplete 200 holds a beginning, a 206 anything.
    """

    status: int
    fields: Fields
    spans: tuple[Span, ...]
    size: int | None

    @property
    def complete(self) -> bool:
        """Say whether every byte of a known whole is here."""
        return self.size is not None and self.spans == (Span(0, self.size),)


class Piece(NamedTuple):
    """Bytes of the whole that are taken from one of several parts."""

    part: int
    span: Span


class Cut(NamedTuple):
    """What one slice gives: its number, and which of its own bytes."""

    slice: int
    span: Span


class Ranged(Protocol):
    """What a stored answer shows to a request with Range; `response_at` is wall clock."""

    status: int
    fields: Fields
    etag: bytes | None
    last_modified: bytes | None
    response_at: float


def read_content_range(value: bytes | None) -> ContentRange | None:
    """Read the Content-Range of a 206; None when it is invalid or not in bytes. RFC 9110 §14.4."""
    match = None if value is None else _CONTENT_RANGE.fullmatch(value)
    if match is None:
        return None
    first, last = int(match[1]), int(match[2])
    size = None if match[3] is None else int(match[3])
    if last < first or (size is not None and size <= last):
        return None
    return ContentRange(Span(first, last + 1), size)


def read_unsatisfied(value: bytes | None) -> int | None:
    """Read the length of the whole from the Content-Range of a 416. RFC 9110 §14.4."""
    match = None if value is None else _UNSATISFIED.fullmatch(value)
    return None if match is None else int(match[1])


def received_part(status: int, fields: Fields, received_bytes: int) -> Part | None:
    """Say what an answer to GET gave, of which `received_bytes` of content came.

    None when it cannot be kept as a part: several parts in one, a unit other than bytes, lengths
    that contradict each other, content without an identity (RFC 9111 §3.3, RFC 9110 §14.4), or
    none at all.
    """
    value = fields.get(b"content-length")
    if value is not None and not _LENGTH.fullmatch(value):
        return None
    length = None if value is None else int(value)
    if received_bytes <= 0 or (length is not None and received_bytes > length):
        return None
    if status == 200:
        return Part(200, fields, (Span(0, received_bytes),), length)
    place = read_content_range(fields.get(b"content-range")) if status == 206 else None
    if place is None:
        return None
    promised = place.span.stop - place.span.first
    if received_bytes > promised or (length is not None and length != promised):
        return None
    span = Span(place.span.first, place.span.first + received_bytes)
    return Part(206, fields, (span,), place.size)


def combined(stored: Part, new: Part, now: int) -> Part | None:
    """Put a new part to what is stored; None when they are not parts of one thing. RFC 9111 §3.4.

    Both must have one strong validator in common, and agree on the length of the whole. The fields
    are the stored ones updated by the new ones, or those of a new 200 (RFC 9110 §15.3.7.3),
    without Content-Length and Content-Range: these follow from the spans. The status is 200 when
    the spans begin with the first byte and have no hole, else 206.
    """
    validator = strong_validator(new.fields, now)
    if validator is None or validator != strong_validator(stored.fields, now):
        return None
    if stored.size is not None and new.size is not None and stored.size != new.size:
        return None
    size = stored.size if new.size is None else new.size
    spans = joined((*stored.spans, *new.spans))
    if len(spans) > MAX_SPANS or (size is not None and spans and spans[-1].stop > size):
        return None
    lines = new.fields.lines if new.status == 200 else updated_fields(stored.fields, new.fields)
    fields = Fields(line for line in lines if line[0].lower() not in _OF_ONE_MESSAGE)
    from_the_start = len(spans) == 1 and spans[0].first == 0
    return Part(200 if from_the_start else 206, fields, spans, size)


def joined(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Return the same bytes as ascending spans that do not touch."""
    apart: list[Span] = []
    for span in sorted(spans):
        if apart and span.first <= apart[-1].stop:
            apart[-1] = Span(apart[-1].first, max(apart[-1].stop, span.stop))
        elif span.first < span.stop:
            apart.append(span)
    return tuple(apart)


def missing(wanted: Span, held: Iterable[Span]) -> list[Span]:
    """Return the bytes of `wanted` that are not in `held`, ascending."""
    gaps = []
    position = wanted.first
    for span in joined(held):
        if span.first >= wanted.stop:
            break
        if span.first > position:
            gaps.append(Span(position, span.first))
        position = max(position, span.stop)
    if position < wanted.stop:
        gaps.append(Span(position, wanted.stop))
    return gaps


def pieces(wanted: Span, parts: Sequence[Iterable[Span]]) -> list[Piece] | None:
    """Say where each byte of `wanted` is taken from, in order; None when one is in no part.

    `parts` holds the spans of each part, the most trusted (the newest) first.
    """
    found: list[Piece] = []
    gaps = [wanted] if wanted.first < wanted.stop else []
    for number, spans in enumerate(parts):
        if not gaps:
            break
        held = joined(spans)
        for gap in gaps:
            overlaps = (Span(max(gap.first, it.first), min(gap.stop, it.stop)) for it in held)
            found += [Piece(number, span) for span in overlaps if span.first < span.stop]
        gaps = [rest for gap in gaps for rest in missing(gap, held)]
    return None if gaps else sorted(found, key=lambda piece: piece.span)


def may_answer(part: Part, asked: Iterable[Span]) -> bool:
    """Say whether a part may answer a request for these spans, as a 206. RFC 9111 §3.3.

    A request for the whole asks for what is not here, unless the part is complete.
    """
    return part.size is not None and not any(missing(span, part.spans) for span in asked)


def completing_fields(part: Part, now: int) -> list[FieldLine]:
    """Return the fields of a range request for the first hole of a part. RFC 9111 §3.3, §4.3.1.

    Empty when there is none, or no strong validator to ask with: If-Range makes the answer 200
    when the representation is another one by now. RFC 9110 §13.1.5.
    """
    validator = strong_validator(part.fields, now)
    if validator is None or part.complete:
        return []
    known = part.spans[-1].stop if part.size is None else part.size
    gaps = missing(Span(0, known), part.spans)
    asked = b"%d-%d" % (gaps[0].first, gaps[0].stop - 1) if gaps else b"%d-" % known
    return [(b"Range", b"bytes=" + asked), (b"If-Range", validator)]


def range_to_serve(request: Request, entry: Ranged, now: int) -> bytes | None:
    """Return the Range field that is to be heeded for a stored answer, None for none of it.

    Only GET has ranges (RFC 9110 §14.2), only of a 200 or of parts of one, and only while If-Range
    names the very representation that is stored (RFC 9111 §4.3.2). Whether the stored date is
    strong is measured against the stored Date, or the time of receipt. RFC 9110 §8.8.2.2.
    """
    value = request.fields.get(b"range")
    if value is None or request.method != b"GET" or entry.status not in {200, 206}:
        return None
    condition = request.fields.get(b"if-range")
    if condition is None:
        return value
    date = entry.fields.get(b"date")
    dated_at = None if date is None else parse_date(date, now)
    if dated_at is None:
        dated_at = int(entry.response_at)
    modified_at = validators_of(entry.fields, now).modified_at
    return value if if_range_holds(condition, entry.etag, modified_at, dated_at) else None


def first_slice(range_value: bytes | None, slice_bytes: int) -> int:
    """Return the slice to fetch first while the length of the whole is unknown.

    The one where the first range begins; the first of all for what is counted from the end, since
    every slice tells the length. (nginx's slice module does the same.)
    """
    match = None if range_value is None else _FIRST_POSITION.match(range_value)
    return 0 if match is None else int(match[1]) // slice_bytes


def slices_for(span: Span, size: int, slice_bytes: int) -> Iterator[Cut]:
    """Yield the slices that hold `span` of a whole of `size` bytes, in order."""
    stop = min(span.stop, size)
    if span.first >= stop:
        return
    for number in range(span.first // slice_bytes, (stop - 1) // slice_bytes + 1):
        start = number * slice_bytes
        yield Cut(number, Span(max(span.first - start, 0), min(stop - start, slice_bytes)))


def slice_range(number: int, slice_bytes: int) -> bytes:
    """Write the Range that asks for one slice; the last slice is as long as it is."""
    return b"bytes=%d-%d" % (number * slice_bytes, (number + 1) * slice_bytes - 1)


def slice_size(
    number: int, slice_bytes: int, status: int, fields: Fields, whole: int | None = None
) -> int | None:
    """Return the length of the whole from the answer to a request for one slice.

    None when the answer is not exactly this slice, or is one of a whole that has another length
    than `whole`: it is passed on and not stored as a slice.
    """
    place = read_content_range(fields.get(b"content-range")) if status == 206 else None
    if place is None or place.size is None or whole not in {None, place.size}:
        return None
    start = number * slice_bytes
    exact = Span(start, min(start + slice_bytes, place.size))
    return place.size if place.span == exact else None


def same_whole(one: Fields, other: Fields, now: int) -> bool:
    """Say whether two slices may be sent as one: they share a strong validator. RFC 9111 §3.4."""
    validator = strong_validator(one, now)
    return validator is not None and validator == strong_validator(other, now)
