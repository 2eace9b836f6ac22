"""A body that goes out from a copy in memory: sent by the kernel, or read where that cannot be.

Nothing here waits: what is pushed is there, and was checked when it was copied (see sealed.py).
"""

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Final

from proxy.cache.sealed import Sealed
from proxy.message import NO_FILES, Consumer
from proxy.page_cache import LEAST_SEND_BYTES, SEND_BYTES
from proxy.rules.ranges import Span

# As for files: from 128 KiB on the cost per byte is flat.
CHUNK_BYTES: Final = 256 * 1024


class SealedSource:
    """A `Source` of pieces in order: bytes as they are, and spans of the copy."""

    __slots__ = (
        "_consumer",
        "_copy",
        "_loop",
        "_paused",
        "_pieces",
        "_scheduled",
        "_send_file",
        "length",
    )

    def __init__(self, copy: Sealed, pieces: Sequence[bytes | Span]) -> None:
        self.length: int | None = sum(map(_size, pieces))
        self._copy = copy
        self._pieces = [piece for piece in reversed(pieces) if _size(piece)]
        self._consumer: Consumer | None = None
        self._send_file: Callable[[int, int, int], int] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._paused = False
        self._scheduled = False

    def start(self, consumer: Consumer) -> None:
        """Begin to push; the first chunk comes before this returns."""
        self._consumer = consumer
        self._send_file = getattr(consumer, "send_file", None)
        self._loop = asyncio.get_running_loop()
        self._push()

    def pause(self) -> None:
        """Push nothing until `resume`."""
        self._paused = True

    def resume(self) -> None:
        """Go on after `pause`."""
        self._paused = False
        self._schedule()

    def cancel(self) -> None:
        """Give up."""
        self._consumer = None

    def _schedule(self) -> None:
        """Push the next chunk in another turn, so that one fast client does not hold the loop."""
        if self._loop is not None and not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._take_turn)

    def _take_turn(self) -> None:
        self._scheduled = False
        self._push()

    def _push(self) -> None:
        """Hand over one chunk, or the end."""
        consumer = self._consumer
        if consumer is None or self._paused:
            return
        if self._pieces:
            piece = self._pieces.pop()
            if isinstance(piece, bytes):
                consumer.feed(piece)
            else:
                self._push_span(consumer, piece)
        if self._pieces:
            if not self._paused:
                self._schedule()
        elif self._consumer is consumer:
            self._consumer = None
            consumer.finish(None)

    def _push_span(self, consumer: Consumer, span: Span) -> None:
        """Hand over the start of `span`, and keep the rest of it."""
        descriptor = self._copy.descriptor
        count = min(SEND_BYTES, span.stop - span.first)
        sent, data = NO_FILES, b""
        if self._send_file is not None and count >= LEAST_SEND_BYTES:
            sent = self._send_file(descriptor, span.first, count)
            if sent == NO_FILES:
                self._send_file = None
        if sent == NO_FILES:
            data = os.pread(descriptor, min(count, CHUNK_BYTES), span.first)
            sent = len(data)
        if span.first + sent < span.stop:
            self._pieces.append(Span(span.first + sent, span.stop))
        if data:
            consumer.feed(data)


def _size(piece: bytes | Span) -> int:
    return len(piece) if isinstance(piece, bytes) else piece.stop - piece.first
