"""Range requests: which bytes are asked for, and how several parts are framed.

Pure. What RFC 9110 §14.2 lets a server ignore or reject is decided here: a unit other than bytes
and a malformed field are ignored (the whole representation goes out); a set that looks like an
attack is rejected with 416, as §15.5.17 has it, because a full answer would be its reward.
"""

import re
from itertools import pairwise
from typing import Final, NamedTuple

# Eighteen digits are more than any file has bytes.
RANGE_SPEC: Final = re.compile(rb"(?P<first>\d{1,18})-(?P<last>\d{1,18})?|-(?P<suffix>\d{1,18})")

# Apache's MaxRanges 200 and MaxRangeReversals 20; nginx has no limit but one to set.
MAX_RANGES: Final = 200
MAX_REVERSALS: Final = 20
# The RFC's own number ("more than two overlapping ranges"); Apache allows 20.
MAX_OVERLAPPING: Final = 2
# Ranges nearer than this go out as one: a part head costs about as much. RFC 9110 §15.3.7.2.
COALESCE_GAP_BYTES: Final = 80


class Span(NamedTuple):
    """Bytes from `first` up to, and without, `stop`."""

    first: int
    stop: int


def parse_range(value: bytes, length: int) -> list[Span] | None:
    """Resolve a Range field against a representation of `length` bytes. RFC 9110 §14.1.2, §14.2.

    Returns None when the field is to be ignored, an empty list when it is to be answered with 416,
    else the spans in the order asked for, neighbours coalesced.
    """
    unit, equals, ranges = value.partition(b"=")
    if not equals or unit.lower() != b"bytes":
        return None
    specs = [spec for element in ranges.split(b",") if (spec := element.strip(b" \t"))]
    if not specs:
        return None
    if len(specs) > MAX_RANGES:
        return []
    spans = []
    for spec in specs:
        match = RANGE_SPEC.fullmatch(spec)
        span = match and _resolve(match, length)
        if span is None:
            return None
        if span.first < span.stop:
            spans.append(span)
    return [] if _is_abusive(spans) else _coalesce(spans)


def _resolve(match: re.Match[bytes], length: int) -> Span | None:
    """Turn one range-spec into a span, an empty one when it is past the end; None is malformed."""
    first, last, suffix = match.group("first", "last", "suffix")
    if suffix is not None:
        if length == 0:
            return None  # satisfiable, yet Content-Range cannot say "no bytes"
        return Span(max(0, length - int(suffix)), length)
    if last is None:
        return Span(int(first), length)
    if int(last) < int(first):
        return None
    return Span(int(first), min(int(last) + 1, length))


def _is_abusive(spans: list[Span]) -> bool:
    """Tell what RFC 9110 §14.2 calls a broken client or a deliberate denial of service."""
    reversals = sum(after.first < before.first for before, after in pairwise(spans))
    if reversals > MAX_REVERSALS:
        return True
    overlapping = set()
    furthest, holder = 0, -1
    for index in sorted(range(len(spans)), key=spans.__getitem__):
        if spans[index].first < furthest:
            overlapping |= {index, holder}
        if spans[index].stop > furthest:
            furthest, holder = spans[index].stop, index
    return len(overlapping) > MAX_OVERLAPPING


def _coalesce(spans: list[Span]) -> list[Span]:
    """Join spans that overlap or nearly touch, each at the place where its first one was asked."""
    joined: list[tuple[int, Span]] = []
    for place, span in sorted(enumerate(spans), key=lambda item: item[1]):
        if joined and span.first - joined[-1][1].stop < COALESCE_GAP_BYTES:
            held_place, held = joined[-1]
            joined[-1] = (min(held_place, place), Span(held.first, max(held.stop, span.stop)))
        else:
            joined.append((place, span))
    return [span for _, span in sorted(joined)]


def content_range(span: Span, length: int) -> bytes:
    """Write the Content-Range of one part. RFC 9110 §14.4."""
    return b"bytes %d-%d/%d" % (span.first, span.stop - 1, length)


def unsatisfied_range(length: int) -> bytes:
    """Write the Content-Range of a 416. RFC 9110 §14.4."""
    return b"bytes */%d" % length


def multipart_heads(
    spans: list[Span], length: int, content_type: bytes, boundary: bytes
) -> list[bytes]:
    """Write what stands before each part of a multipart/byteranges body, and after the last.

    One more than `spans`; the body is head, part, head, part … end. RFC 9110 §14.6.
    """
    heads = [
        b"\r\n--%b\r\nContent-Type: %b\r\nContent-Range: %b\r\n\r\n"
        % (boundary, content_type, content_range(span, length))
        for span in spans
    ]
    heads[0] = heads[0].removeprefix(b"\r\n")
    return [*heads, b"\r\n--%b--\r\n" % boundary]
