"""Content that is read from an entry's file while it goes out, block by checked block.

One chunk is under way at a time. On Linux it is copied from the page cache without leaving the
event loop; what is not cached, and every other system, is read in a thread. Nothing is pushed that
did not match its checksum: a file whose first chunk is damaged, or that another one has replaced,
is a miss, for that chunk is looked at before the head of the answer goes out; what is damaged
further on breaks off. That is why it is copied: what the kernel sends from a file is whatever the
file holds by then. What is asked for again and again goes out from a copy that cannot change (see
sealed.py).
"""

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from errno import EOPNOTSUPP
from functools import partial
from typing import Final

from proxy.cache import disk_file
from proxy.cache.disk_file import BLOCK_BYTES, CHECK_BYTES, Layout
from proxy.cache.disk_folder import write_all
from proxy.cache.disk_open import READ_FLAGS
from proxy.cache.sealed import Copies
from proxy.cache.sealed_source import SealedSource
from proxy.errors import StoredContentError
from proxy.message import Consumer
from proxy.paced import PacedSource
from proxy.page_cache import NOT_IN_CACHE, NOWAIT
from proxy.rules.ranges import Span

# As for plain files: from 128 KiB on the cost per byte is flat, and a turn stays below 150 µs.
CHUNK_BLOCKS: Final = 4


# Errors of a read that must not wait: it would, or the file system knows no such reads.
NOT_NOW: Final = NOT_IN_CACHE | {EOPNOTSUPP}


class Landing(threading.local):
    """Where the reads of one thread land, before they are checked and become bytes."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(CHUNK_BLOCKS * BLOCK_BYTES))


landing = Landing()

# Told when a file turns out to be damaged.
Damaged = Callable[[str], None]


class DiskBody:
    """The content of one file, opened for each use; it is the file of that id or none.

    `checks` are the checksums of a file that is still being written, and does not hold them yet.
    `copies` are those that may be used in place of the file.
    """

    __slots__ = (
        "_checks",
        "_copies",
        "_damaged",
        "_executor",
        "_layout",
        "_path",
        "offset",
        "size_bytes",
    )

    def __init__(
        self,
        path: str,
        layout: Layout,
        size_bytes: int,
        executor: Executor,
        damaged: Damaged,
        checks: bytearray | None = None,
        copies: Copies | None = None,
    ) -> None:
        self.size_bytes = size_bytes
        self.offset = layout.content_at  # where in the file it begins
        self._path = path
        self._layout = layout
        self._executor = executor
        self._damaged = damaged
        self._checks = checks
        self._copies = copies

    @property
    def file_id(self) -> bytes:
        """Return the id of the file that holds it."""
        return self._layout.file_id

    def source(self, pieces: Sequence[bytes | Span] | None = None) -> "DiskSource | SealedSource":
        """Open it and return a source of `pieces` in order, of all of it for None.

        Raises StoredContentError when it is gone, replaced or damaged, as far as that can be seen
        without waiting; the rest is for `look` of a source that is not `seen`.
        """
        if pieces is None:
            pieces = [Span(0, self.size_bytes)]
        try:
            descriptor = os.open(self._path, READ_FLAGS)
        except OSError as error:
            raise StoredContentError(f"its file cannot be opened: {error.strerror}") from None
        source = DiskSource(self, descriptor, pieces)
        copy = None if self._copies is None else self._copies.find(self, self._executor)
        if copy is not None and _id_in(descriptor, NOWAIT) == self.file_id:
            source.cancel()
            return SealedSource(copy, pieces)
        try:
            source.begin()
        except StoredContentError:
            source.cancel()
            raise
        return source

    def read(self, descriptor: int, span: Span, flags: int) -> bytes:
        """Return the first bytes of `span`, a chunk at most, once its blocks are found whole.

        Returns nothing when `flags` forbid to wait for the disk. Raises OSError and
        StoredContentError.
        """
        first = span.first // BLOCK_BYTES
        blocks = min(disk_file.block_count(span.stop) - first, CHUNK_BLOCKS)
        found = self._whole_blocks(descriptor, first, blocks, flags)
        at = first * BLOCK_BYTES
        return b"" if found is None else bytes(found[span.first - at : span.stop - at])

    def _whole_blocks(
        self, descriptor: int, first: int, blocks: int, flags: int
    ) -> memoryview | None:
        """Read and check `blocks` of the content; what is returned holds until the next read."""
        at = first * BLOCK_BYTES
        wanted = min(blocks * BLOCK_BYTES, self.size_bytes - at)
        data = landing.view[:wanted]
        count = read_into(descriptor, data, self.offset + at, flags)
        if count < wanted and flags:
            return None
        checks = self._checks_of(descriptor, first, blocks, flags)
        if len(checks) < blocks * CHECK_BYTES and flags:
            return None
        if count < wanted:
            raise StoredContentError("it is cut short")
        disk_file.check(self._layout, first, data, checks)
        return data

    def _checks_of(
        self, descriptor: int, first: int, blocks: int, flags: int
    ) -> bytearray | memoryview:
        """Return the checksums of blocks, fewer where the file ends or `flags` forbid to wait."""
        if self._checks is not None:
            return self._checks[first * CHECK_BYTES : (first + blocks) * CHECK_BYTES]
        checks = memoryview(bytearray(blocks * CHECK_BYTES))
        offset = self.offset + self.size_bytes + first * CHECK_BYTES
        return checks[: read_into(descriptor, checks, offset, flags)]

    def check_size(self, descriptor: int) -> None:
        """Compare the size of an open file with what it should be, which costs no look at it.

        Raises StoredContentError.
        """
        expected = self.offset + disk_file.stored_bytes(self.size_bytes)
        if os.fstat(descriptor).st_size != expected:
            raise StoredContentError("its file has another size")

    def is_replaced(self, descriptor: int) -> bool:
        """Say whether an open file is another than this content was found in."""
        return _id_in(descriptor, 0) not in {None, self.file_id}

    def copy_to(self, target: int) -> None:
        """Write all of it, checked, to a descriptor, in a thread.

        Raises StoredContentError, OSError.
        """
        descriptor = os.open(self._path, READ_FLAGS)
        try:
            count = disk_file.block_count(self.size_bytes)
            for first in range(0, count, CHUNK_BLOCKS):
                data = self._whole_blocks(descriptor, first, min(CHUNK_BLOCKS, count - first), 0)
                write_all(target, [data or b""])
        finally:
            os.close(descriptor)

    def report(self, error: StoredContentError) -> None:
        """Have a damaged file removed."""
        self._damaged(str(error))

    def read_in_thread(self, descriptor: int, span: Span) -> "asyncio.Future[bytes | Failure]":
        """Read without flags, in a thread."""
        loop = asyncio.get_running_loop()
        return loop.run_in_executor(self._executor, _read, self, descriptor, span)


def _id_in(descriptor: int, flags: int) -> bytes | None:
    """Return the id of an open file; None when it shows none, or `flags` forbid to wait for it."""
    start = memoryview(bytearray(disk_file.PROLOGUE_BYTES))
    try:
        read_into(descriptor, start, 0, flags)
        return disk_file.parse_prologue(start).file_id
    except (OSError, StoredContentError):
        return None


Failure = tuple[StoredContentError, bool]


def _read(body: DiskBody, descriptor: int, span: Span) -> bytes | Failure:
    """Read in a thread; an error is a result like any other: whether the file was replaced."""
    try:
        return body.read(descriptor, span, 0)
    except StoredContentError as error:
        return error, body.is_replaced(descriptor)
    except OSError as error:
        return StoredContentError(f"it cannot be read: {error.strerror}"), True


def read_into(descriptor: int, data: memoryview, offset: int, flags: int) -> int:
    """Fill `data` from `offset` on; returns how much there was, or could be had without waiting.

    Raises OSError.
    """
    done = 0
    while done < len(data):
        if flags:
            try:
                return os.preadv(descriptor, [data], offset, flags)
            except OSError as error:
                if error.errno in NOT_NOW:
                    return 0
                raise
        part = os.pread(descriptor, len(data) - done, offset + done)
        if not part:
            break
        data[done : done + len(part)] = part
        done += len(part)
    return done


class DiskSource(PacedSource):
    """A `Source` of pieces in order: bytes as they are, and spans of the content."""

    __slots__ = ("_ahead", "_body", "_cancelled", "_descriptor", "seen")

    def __init__(self, body: DiskBody, descriptor: int, pieces: Sequence[bytes | Span]) -> None:
        super().__init__(pieces)
        self._body = body
        self._descriptor = descriptor
        self._ahead = b""  # the first chunk, which was looked at before the head went out
        self._cancelled = False
        self.seen = True

    def _first_span(self) -> Span | None:
        return next((piece for piece in reversed(self._pieces) if isinstance(piece, Span)), None)

    def begin(self) -> None:
        """Check the first chunk if it is in the page cache; raises StoredContentError."""
        span = self._first_span()
        if span is None:
            return
        try:
            self._body.check_size(self._descriptor)
            if NOWAIT:
                self._ahead = self._body.read(self._descriptor, span, NOWAIT)
            self.seen = bool(self._ahead)
        except StoredContentError as error:
            if not self._body.is_replaced(self._descriptor):
                self._body.report(error)
            raise
        except OSError as error:
            raise StoredContentError(f"it cannot be read: {error.strerror}") from None

    async def look(self) -> None:
        """Check the first chunk, in a thread; raises StoredContentError, and is closed then."""
        span = self._first_span()
        if span is None or self.seen:
            return
        self._reading = True
        future = self._body.read_in_thread(self._descriptor, span)
        future.add_done_callback(self._on_look)
        result = await asyncio.shield(future)  # the file stays open as long as a thread reads it
        if isinstance(result, tuple):
            self.cancel()
            if not result[1]:
                self._body.report(result[0])
            raise result[0]
        self._ahead = result
        self.seen = True

    def _on_look(self, _future: object) -> None:
        self._reading = False
        if self._cancelled:
            self._close()

    def cancel(self) -> None:
        """Give up; the file is closed when no thread reads it any more."""
        self._cancelled = True
        super().cancel()

    def _close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def __del__(self) -> None:
        self._close()

    def _push_span(self, consumer: Consumer, span: Span) -> None:
        if (NOWAIT or self._ahead) and self._push_cached(consumer, span):
            return
        self._reading = True
        future = self._body.read_in_thread(self._descriptor, span)
        future.add_done_callback(partial(self._on_read, span))

    def _push_cached(self, consumer: Consumer, span: Span) -> bool:
        """Hand over a chunk from the page cache; False when a thread has to see to it."""
        data, self._ahead = self._ahead, b""
        try:
            data = data or self._body.read(self._descriptor, span, NOWAIT)
        except (OSError, StoredContentError):
            return False  # the thread meets it again, and looks into it
        if data:
            self._take(consumer, span, data)
        return bool(data)

    def _on_read(self, span: Span, future: "asyncio.Future[bytes | Failure]") -> None:
        self._reading = False
        consumer = self._consumer
        result = future.result()
        if isinstance(result, tuple) and not result[1]:
            self._body.report(result[0])
        if consumer is None:
            self._close()
        elif isinstance(result, bytes):
            self._take(consumer, span, result)
        else:
            self._break(consumer, result[0])

    def _take(self, consumer: Consumer, span: Span, data: bytes) -> None:
        """Count `data` off its span, and hand it over."""
        self._count(span, len(data))
        self._feed(consumer, data)
