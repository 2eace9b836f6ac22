"""A body that is read from an open file while it goes out, in bounded memory.

One chunk is under way at a time. On Linux it goes from the page cache to the client without leaving
the event loop: sent by the kernel to a consumer that takes files, else copied. What is not cached,
and every other system, is read in a thread. Each chunk goes out only while the file's size and
modification time are those that the head was written for, so a client sees a broken connection
when the file is changed. What the kernel sends is the file itself until the client has it: whoever
writes over a file in place, instead of renaming a new one to its name, may show both.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from proxy import page_cache
from proxy.errors import FileChangedError
from proxy.files.safe_open import OpenFile
from proxy.message import NO_FILES, Consumer
from proxy.paced import PacedSource
from proxy.page_cache import LEAST_SEND_BYTES, NOT_IN_CACHE, NOWAIT, SEND_BYTES
from proxy.rules.ranges import Span

# nginx's output buffers are of 32 KiB; from 128 KiB on the cost per byte of a read is flat, and one
# turn of the loop stays below 100 µs.
CHUNK_BYTES: Final = 256 * 1024


class Landing(threading.local):
    """Where cached reads of one thread's event loop land, before they become bytes."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(CHUNK_BYTES))


_landing = Landing()


class FileSource(PacedSource):
    """A `Source` of pieces in order: bytes as they are, and spans of `file`, which it closes."""

    __slots__ = ("_file", "_nowait", "_send_file")

    def __init__(self, file: OpenFile, pieces: Sequence[bytes | Span]) -> None:
        super().__init__(pieces)
        self._file = file
        self._send_file: Callable[[int, int, int], int] | None = None
        self._nowait = bool(NOWAIT)

    def start(self, consumer: Consumer) -> None:
        """Begin to push; the first chunk comes before this returns when it is in the page cache."""
        self._send_file = getattr(consumer, "send_file", None) if self._nowait else None
        super().start(consumer)

    def _close(self) -> None:
        self._file.close()

    def _push_span(self, consumer: Consumer, span: Span) -> None:
        if self._send_file is not None and self._send(consumer, span, self._send_file):
            return
        wanted = min(CHUNK_BYTES, span.stop - span.first)
        data = self._read_cached(wanted, span.first) if self._nowait else b""
        if data:
            self._take(consumer, span, data)
        else:
            self._reading = True
            future = asyncio.get_running_loop().run_in_executor(
                None, _read, self._file.descriptor, wanted, span.first
            )
            future.add_done_callback(partial(self._on_read, span))

    def _send(
        self, consumer: Consumer, span: Span, send_file: Callable[[int, int, int], int]
    ) -> bool:
        """Have the consumer take a chunk from the page cache; False when it has to be read."""
        count = min(SEND_BYTES, span.stop - span.first)
        descriptor = self._file.descriptor
        if count < LEAST_SEND_BYTES or not page_cache.holds(descriptor, span.first, count):
            return False
        if not self._file.unchanged():
            self._break(consumer, FileChangedError("a file changed while it was sent"))
            return True
        sent = send_file(descriptor, span.first, count)
        if sent > 0:
            self._count(span, sent)
            self._go_on(consumer)
        elif sent == NO_FILES:
            self._send_file = None
            return False
        elif not self._paused:
            self._break(consumer, FileChangedError("a file became shorter while it was sent"))
        return True

    def _read_cached(self, wanted: int, offset: int) -> bytes:
        """Copy from the page cache; empty when a thread has to see to it."""
        landing = _landing.view[:wanted]
        try:
            count = os.preadv(self._file.descriptor, [landing], offset, NOWAIT)
        except OSError as error:
            # A file system that cannot tell will not learn it; any other error is the thread's.
            self._nowait = error.errno in NOT_IN_CACHE
            return b""
        return bytes(landing[:count])

    def _on_read(self, span: Span, future: "asyncio.Future[bytes | OSError]") -> None:
        self._reading = False
        consumer = self._consumer
        if consumer is None:
            self._close()
            return
        data = future.result()
        if isinstance(data, OSError):
            self._break(consumer, FileChangedError(f"a file could not be read: {data.strerror}"))
        else:
            self._take(consumer, span, data)

    def _take(self, consumer: Consumer, span: Span, data: bytes) -> None:
        """Check that `data` belongs to the file as it was, and count it off its span."""
        if not data:
            self._break(consumer, FileChangedError("a file became shorter while it was sent"))
            return
        if not self._file.unchanged():
            self._break(consumer, FileChangedError("a file changed while it was sent"))
            return
        self._count(span, len(data))
        self._feed(consumer, data)


def _read(descriptor: int, wanted: int, offset: int) -> bytes | OSError:
    """Read in a thread; an error is a result like any other, seen by whoever is still there."""
    try:
        return os.pread(descriptor, wanted, offset)
    except OSError as error:
        return error
