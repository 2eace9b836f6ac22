"""An answer that waits here for its client, so that the application does not have to.

    upstream ──feed──→ memory ──→ file ──→ client
                          └─ nothing waits: straight through ─↗

Bytes are in memory up to `memory_bytes`, then in a temporary file, up to `limit_bytes` together;
past that the upstream is held back until the client has caught up with the file, as it is while
the file is written slower than it sends.
"""

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Final

import aiofiles.tempfile

from proxy.errors import HttpError
from proxy.message import Consumer, Fields, Source

if TYPE_CHECKING:
    from aiofiles.threadpool.binary import AsyncFileIO

log: Final = logging.getLogger("proxyd.pipeline")

# What may wait for a write to the file that is under way.
BACKLOG_BYTES: Final = 512 * 1024
READ_BYTES: Final = 128 * 1024


class Spool:
    """Source and Consumer between an upstream's body and a client."""

    __slots__ = (
        "_consumer",
        "_disk_failed",
        "_ended",
        "_folder",
        "_held",
        "_limit_bytes",
        "_memory",
        "_memory_bytes",
        "_paused",
        "_read_at",
        "_source",
        "_source_paused",
        "_task",
        "_trailers",
        "_wake",
        "_written_at",
        "length",
    )

    def __init__(
        self, source: Source, folder: str | None, memory_bytes: int, limit_bytes: int
    ) -> None:
        self.length = source.length
        self._source = source
        self._folder = folder
        self._memory_bytes = memory_bytes
        self._limit_bytes = limit_bytes
        self._consumer: Consumer | None = None
        self._memory: deque[bytes] = deque()
        self._held = 0  # bytes in _memory
        self._disk_failed = False
        self._written_at = 0  # where the file ends …
        self._read_at = 0  # … and what of it the client has
        self._paused = False
        self._source_paused = False
        self._ended = False
        self._trailers: Fields | None = None
        self._task: asyncio.Task[None] | None = None
        self._wake: asyncio.Future[None] | None = None

    # Towards the client.

    def start(self, consumer: Consumer) -> None:
        """Begin to push."""
        self._consumer = consumer
        self._source.start(self)

    def pause(self) -> None:
        """The client has enough for now."""
        self._paused = True

    def resume(self) -> None:
        """The client takes more."""
        self._paused = False
        self._drain_memory()
        self._work()

    def cancel(self) -> None:
        """The client is gone."""
        self._consumer = None
        self._memory.clear()
        self._held = 0
        if not self._ended:
            self._ended = True
            self._source.cancel()
        self._work()

    # From the upstream.

    def feed(self, data: bytes) -> None:
        """Pass on, or keep."""
        consumer = self._consumer
        if consumer is None:
            return
        if not self._paused and not self._held and self._task is None:
            consumer.feed(data)
            return
        self._memory.append(data)
        self._held += len(data)
        self._work()

    def finish(self, trailers: Fields | None) -> None:
        """The upstream is done, and free."""
        self._ended = True
        self._trailers = trailers
        self._work()

    def abort(self, error: Exception) -> None:
        """The upstream broke off; what the client has not had yet is of no use to it."""
        self._ended = True
        self._memory.clear()
        self._held = 0
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            consumer.abort(error)
        self._work()

    # Between the two.

    def _drain_memory(self) -> None:
        """Push from memory, when nothing older is in the file."""
        if self._task is not None:
            return
        while self._memory and not self._paused and self._consumer is not None:
            data = self._memory.popleft()
            self._held -= len(data)
            self._consumer.feed(data)

    def _work(self) -> None:
        """See what is to be done next; what concerns the file is done by one task."""
        if self._task is not None:
            if self._wake is not None and not self._wake.done():
                self._wake.set_result(None)
        elif self._held > self._memory_bytes and not self._disk_failed:
            self._task = asyncio.get_running_loop().create_task(self._use_file())
        elif self._ended and not self._held:
            consumer, self._consumer = self._consumer, None
            if consumer is not None:
                consumer.finish(self._trailers)
        self._hold_back()

    def _hold_back(self) -> None:
        """Pause the upstream while too much is here, resume it when there is room again."""
        if self._ended:
            return
        bound = self._memory_bytes if self._disk_failed else self._memory_bytes + BACKLOG_BYTES
        waiting = self._held + self._written_at  # a file does not shrink, it begins anew
        if not self._source_paused:
            if self._held > bound or waiting >= self._limit_bytes:
                self._source_paused = True
                self._source.pause()
        elif self._held <= bound // 2 and waiting < self._limit_bytes:
            self._source_paused = False
            self._source.resume()

    async def _use_file(self) -> None:
        """Keep what memory has no room for in a file, until the client has caught up with it."""
        try:
            async with aiofiles.tempfile.TemporaryFile(
                "w+b", buffering=0, dir=self._folder
            ) as file:
                await self._through(file)
        except OSError as error:
            self._do_without_file(error)
            if self._read_at < self._written_at:
                self._give_up(HttpError(f"what waited in a file cannot be had back: {error}"))
        self._task = None
        self._written_at = self._read_at = 0
        self._drain_memory()
        self._work()

    async def _through(self, file: "AsyncFileIO") -> None:
        """Write at the end and read at the beginning; what is in memory is newer than the file."""
        while self._consumer is not None:
            if self._read_at < self._written_at and not self._paused:
                await file.seek(self._read_at)
                # Not further: a write that failed may have left something behind the end.
                data = await file.read(min(READ_BYTES, self._written_at - self._read_at))
                self._read_at += len(data)
                if self._consumer is not None:
                    self._consumer.feed(data)
            elif self._read_at == self._written_at and not self._paused:
                return
            elif self._held > self._memory_bytes and not self._disk_failed:
                await self._write(file)
            else:
                self._wake = asyncio.get_running_loop().create_future()
                await self._wake
                self._wake = None
            self._hold_back()

    async def _write(self, file: "AsyncFileIO") -> None:
        data = b"".join(self._memory)
        pieces = len(self._memory)
        try:
            await file.seek(self._written_at)
            left = memoryview(data)
            while left:
                left = left[await file.write(left) :]
        except OSError as error:
            self._do_without_file(error)
            return
        for _ in range(min(pieces, len(self._memory))):
            self._memory.popleft()
        self._held = max(self._held - len(data), 0)
        self._written_at += len(data)

    def _do_without_file(self, error: OSError) -> None:
        """A full disk is no reason to fail: the upstream has to wait for the client then."""
        log.warning("an answer cannot wait in a file in %s: %s", self._folder, error)
        self._disk_failed = True

    def _give_up(self, error: HttpError) -> None:
        """There is a gap between what the client has and what is still here."""
        if not self._ended:
            self._source.cancel()
        self.abort(error)
