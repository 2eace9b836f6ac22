"""Answers that broke off: kept as such, and completed by asking for the rest. RFC 9111 §3.3, §3.4.

Only in memory, only under a strong validator, and never served before they are complete: an entry
that is not says no_cache, so that whoever finds it has to ask.
"""

from time import time

from proxy.cache.entry import Entry
from proxy.message import Consumer, FieldLine, Fields, Response, Source
from proxy.pipeline.question import Slice
from proxy.rules.partial import (
    Part,
    combined,
    completing_fields,
    read_content_range,
    received_part,
    slice_size,
)
from proxy.rules.ranges import Span
from proxy.rules.validators import strong_validator


def beginning_of(entry: Entry, content: bytes, length: int | None) -> Entry | None:
    """Make an entry of what came before the answer broke off; None when it cannot be completed."""
    if entry.status != 200 or length is None:
        return None
    if strong_validator(entry.fields, int(entry.response_at)) is None:
        return None
    part = entry.copied()
    part.body = content
    part.complete = False
    part.ranges = (Span(0, len(content)),)
    part.size_bytes = length
    part.no_cache = True
    part.set_fields(part.fields)
    return part


def rest_fields(entry: Entry) -> list[FieldLine]:
    """Return the fields that ask for the rest of an entry, or for all of what it is by now."""
    return completing_fields(_part(entry), int(entry.response_at))


def completed(entry: Entry, response: Response) -> Response | None:
    """Put the rest to what an entry has; None when they are not parts of one thing, or not all."""
    fields = Fields(response.fields)
    place = read_content_range(fields.get(b"content-range"))
    if place is None or place.span.first != entry.ranges[0].stop:
        return None
    new = received_part(response.status, fields, place.span.stop - place.span.first)
    whole = None if new is None else combined(_part(entry), new, int(time()))
    beginning, rest = entry.body, response.body
    if whole is None or not whole.complete or rest is None or not isinstance(beginning, bytes):
        return None
    made = Response(
        200,
        list(whole.fields),
        beginning + rest if isinstance(rest, bytes) else Behind(beginning, rest),
        reason=entry.reason,
    )
    made.dated = response.dated
    return made


def whole_in(part: Slice, response: Response) -> Response:
    """Return a slice, or the whole if that is all of it: RFC 9110 §15.3.7.3."""
    fields = Fields(response.fields)
    if slice_size(part.number, part.slice_bytes, response.status, fields) is None:
        return response
    place = read_content_range(fields.get(b"content-range"))
    if place is None or place.span != Span(0, place.size or 0):
        return response
    lines = [line for line in response.fields if line[0].lower() != b"content-range"]
    made = Response(200, lines, response.body)
    made.dated = response.dated
    return made


def _part(entry: Entry) -> Part:
    return Part(200, entry.fields, entry.ranges, entry.size_bytes)


class Behind:
    """A Source of bytes that are here, and of what another one has behind them."""

    __slots__ = ("_beginning", "_source", "length")

    def __init__(self, beginning: bytes, source: Source) -> None:
        self.length = None if source.length is None else len(beginning) + source.length
        self._beginning = beginning
        self._source = source

    def start(self, consumer: Consumer) -> None:
        """Push what is here, and then what comes."""
        consumer.feed(self._beginning)
        self._source.start(consumer)

    def pause(self) -> None:
        """Hold the rest back."""
        self._source.pause()

    def resume(self) -> None:
        """Let it go on."""
        self._source.resume()

    def cancel(self) -> None:
        """Give up."""
        self._source.cancel()
