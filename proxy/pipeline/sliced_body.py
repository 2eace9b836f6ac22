"""The content of a large object, slice after slice; implements `entry.StoredBody`."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from time import time
from typing import Protocol

from proxy.errors import UpstreamError
from proxy.message import Consumer, Fields, Response, Source
from proxy.pipeline.fetched import drop
from proxy.rules.partial import Cut, same_whole, slice_size, slices_for
from proxy.rules.ranges import Span


class Asked(Protocol):
    """A slice that was asked for."""

    def cancel(self) -> object:
        """Want no more of it."""


class Slicing(Protocol):
    """Who gets slices."""

    slice_bytes: int

    def ask(
        self,
        number: int,
        on_answer: Callable[[Response | Exception], None],
        *,
        validated: bool = False,
    ) -> Asked:
        """Ask for one; `validated` wants to know of a stored one whether it still holds."""

    def changed(self) -> None:
        """Learn that what is stored is of several versions."""


class SlicedBody:
    """All of it, of which slice `number` is here; it is used once, or closed."""

    __slots__ = ("_first", "_number", "_slicing", "size_bytes")

    def __init__(self, slicing: Slicing, number: int, first: Response, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._slicing = slicing
        self._number = number
        self._first: Response | None = first

    def source(self, pieces: Sequence[bytes | Span] | None = None) -> "SlicedSource":
        """Return a source of `pieces` in order, of all of it for None."""
        first, self._first = self._first, None
        if first is None:
            raise RuntimeError("used twice")
        wanted = [Span(0, self.size_bytes)] if pieces is None else pieces
        return SlicedSource(self._slicing, self._number, first, self.size_bytes, wanted)

    def close(self) -> None:
        """Let go of what was not used."""
        if self._first is not None:
            drop(self._first)


class SlicedSource:
    """The Source of pieces of it, and the Consumer of one slice at a time."""

    __slots__ = (
        "_asked",
        "_at",
        "_consumer",
        "_cut",
        "_fields",
        "_first",
        "_is_scheduled",
        "_is_validating",
        "_number",
        "_paused",
        "_pieces",
        "_size_bytes",
        "_slicing",
        "_source",
        "length",
    )

    def __init__(
        self,
        slicing: Slicing,
        number: int,
        first: Response,
        size_bytes: int,
        pieces: Sequence[bytes | Span],
    ) -> None:
        self.length: int | None = sum(
            len(piece) if isinstance(piece, bytes) else piece.stop - piece.first for piece in pieces
        )
        self._slicing = slicing
        self._number = number
        self._first: Response | None = first
        self._fields = Fields(first.fields)
        self._size_bytes = size_bytes
        self._pieces = _in_slices(pieces, size_bytes, slicing.slice_bytes)
        self._consumer: Consumer | None = None
        self._cut = Cut(0, Span(0, 0))
        self._at = 0  # within the slice
        self._asked: Asked | None = None
        self._source: Source | None = None
        self._paused = False
        self._is_scheduled = False
        self._is_validating = False

    # Towards the client.

    def start(self, consumer: Consumer) -> None:
        """Begin to push."""
        self._consumer = consumer
        self._go_on()

    def pause(self) -> None:
        """Push nothing until `resume`, and ask for no other slice."""
        self._paused = True
        if self._source is not None:
            self._source.pause()

    def resume(self) -> None:
        """Go on."""
        self._paused = False
        if self._source is not None:
            self._source.resume()
        else:
            self._schedule()

    def cancel(self) -> None:
        """Give up."""
        self._consumer = None
        self._release()

    def _release(self) -> None:
        first, self._first = self._first, None
        if first is not None:
            drop(first)
        source, self._source = self._source, None
        if source is not None:
            source.cancel()
        asked, self._asked = self._asked, None
        if asked is not None:
            asked.cancel()

    def _schedule(self) -> None:
        """Go on in another turn: slices in memory must not be pushed from within each other."""
        if not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._is_scheduled = False
        self._go_on()

    def _go_on(self) -> None:
        """Push what is next, or ask for it."""
        consumer = self._consumer
        if consumer is None or self._paused or self._source is not None or self._asked is not None:
            return
        piece = next(self._pieces, None)
        if piece is None:
            self._consumer = None
            self._release()
            consumer.finish(None)
        elif isinstance(piece, bytes):
            consumer.feed(piece)
            self._schedule()
        else:
            self._cut = piece
            self._is_validating = False
            if piece.slice == self._number and self._first is not None:
                first, self._first = self._first, None
                self._take(first)
            else:
                self._ask()

    # Slices.

    def _ask(self) -> None:
        at_once: list[Response | Exception] = []
        has_asked = False

        def answered(answer: Response | Exception) -> None:
            if has_asked:
                self._asked = None
                self._answered(answer)
            else:
                at_once.append(answer)

        asked = self._slicing.ask(self._cut.slice, answered, validated=self._is_validating)
        has_asked = True
        if at_once:
            self._answered(at_once[0])
        else:
            self._asked = asked

    def _answered(self, answer: Response | Exception) -> None:
        if self._consumer is None:
            _let_go(answer)
        elif isinstance(answer, Exception):
            self._break(answer)
        elif self._fits(answer):
            self._take(answer)
        else:
            drop(answer)
            if self._is_validating:  # so it is the first one that is old, for the next client, too
                self._slicing.changed()
                self._slicing.ask(self._number, _let_go, validated=True)
                self._break(UpstreamError("it has changed while its slices were fetched"))
            else:  # what is stored may be of another version
                self._is_validating = True
                self._ask()

    def _fits(self, answer: Response) -> bool:
        """Whether a slice is one of the same whole. RFC 9111 §3.4."""
        fields = Fields(answer.fields)
        size = self._size_bytes
        cut, length = self._cut, self._slicing.slice_bytes
        if slice_size(cut.slice, length, answer.status, fields, size) is None:
            return False
        return same_whole(self._fields, fields, int(time()))

    def _take(self, answer: Response) -> None:
        body = answer.body
        self._at = 0
        if body is None or isinstance(body, bytes):
            self.feed(body or b"")
            self.finish(None)
        else:
            self._source = body
            if self._paused:
                body.pause()
            body.start(self)

    def _break(self, error: Exception) -> None:
        consumer, self._consumer = self._consumer, None
        self._release()
        if consumer is not None:
            consumer.abort(error)

    # From a slice.

    def feed(self, data: bytes) -> None:
        """Pass on what is wanted of it."""
        span, at, consumer = self._cut.span, self._at, self._consumer
        self._at = at + len(data)
        piece = data[max(0, span.first - at) : max(0, span.stop - at)]
        if piece and consumer is not None:
            consumer.feed(piece)

    def finish(self, trailers: Fields | None) -> None:
        """All of the slice is here."""
        self._source = None
        if self._at < self._cut.span.stop:
            self._break(UpstreamError("a slice is shorter than it said"))
        else:
            self._schedule()

    def abort(self, error: Exception) -> None:
        """The slice broke off."""
        self._source = None
        self._break(error)


def _let_go(answer: Response | Exception) -> None:
    if isinstance(answer, Response):
        drop(answer)


def _in_slices(
    pieces: Sequence[bytes | Span], size_bytes: int, slice_bytes: int
) -> Iterator[bytes | Cut]:
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
        else:
            yield from slices_for(piece, size_bytes, slice_bytes)
