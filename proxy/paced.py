"""A body that goes out in turns of the event loop, a chunk in each, so that no client holds it.

What is common to bodies from files: a subclass says where the bytes of a span come from.
"""

import asyncio
from collections.abc import Sequence

from proxy.message import Consumer
from proxy.rules.ranges import Span


class PacedSource:
    """A `Source` of pieces in order: bytes as they are, and spans of what a subclass reads."""

    __slots__ = ("_consumer", "_loop", "_paused", "_pieces", "_reading", "_scheduled", "length")

    def __init__(self, pieces: Sequence[bytes | Span]) -> None:
        self.length: int | None = sum(map(_size, pieces))
        self._pieces = [piece for piece in reversed(pieces) if _size(piece)]
        self._consumer: Consumer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._paused = False
        self._reading = False  # a thread is at work; a subclass goes on when that is done
        self._scheduled = False

    def start(self, consumer: Consumer) -> None:
        """Begin to push; the first chunk comes before this returns, unless a thread reads it."""
        self._consumer = consumer
        self._loop = asyncio.get_running_loop()
        self._push()

    def pause(self) -> None:
        """Push nothing until `resume`; a chunk that a thread reads may still come."""
        self._paused = True

    def resume(self) -> None:
        """Go on after `pause`."""
        self._paused = False
        self._schedule()

    def cancel(self) -> None:
        """Give up; what is read from is closed when no thread reads it any more."""
        self._consumer = None
        if not self._reading:
            self._close()

    def _push_span(self, consumer: Consumer, span: Span) -> None:
        """Hand over the first bytes of `span`, and `_count` them; or have a thread read them."""
        raise NotImplementedError

    def _close(self) -> None:
        """Let go of what is read from."""

    def _schedule(self) -> None:
        """Push the next chunk in another turn."""
        if self._loop is not None and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._scheduled = False
        self._push()

    def _push(self) -> None:
        """Hand over one chunk, or see to it."""
        consumer = self._consumer
        if consumer is None or self._paused or self._reading:
            return
        if not self._pieces:
            self._end(consumer)
            return
        piece = self._pieces[-1]
        if isinstance(piece, bytes):
            self._pieces.pop()
            self._feed(consumer, piece)
        else:
            self._push_span(consumer, piece)

    def _count(self, span: Span, size_bytes: int) -> None:
        """Count what went out, or is about to, off its span."""
        start = span.first + size_bytes
        if start < span.stop:
            self._pieces[-1] = Span(start, span.stop)
        else:
            self._pieces.pop()

    def _feed(self, consumer: Consumer, data: bytes) -> None:
        consumer.feed(data)
        self._go_on(consumer)

    def _go_on(self, consumer: Consumer) -> None:
        if self._pieces:
            if not self._paused:
                self._schedule()
        elif self._consumer is consumer:
            self._end(consumer)

    def _end(self, consumer: Consumer) -> None:
        self._consumer = None
        self._close()
        consumer.finish(None)

    def _break(self, consumer: Consumer, error: Exception) -> None:
        self._consumer = None
        self._close()
        consumer.abort(error)


def _size(piece: bytes | Span) -> int:
    return len(piece) if isinstance(piece, bytes) else piece.stop - piece.first
