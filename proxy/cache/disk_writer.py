"""Content on its way into a file while it streams to a client: written aside, then named.

The client's pace is its own: what the disk has not taken yet waits in memory up to a bound, `write`
asks for a pause before that, and content that comes all the same is given up. What was written by
then can still be read back, for clients who are not as far yet: a full disk costs an entry, and no
answer.
"""

import asyncio
import logging
import os
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final, Protocol

from aiofiles.os import wrap

from proxy.cache import codec, disk_file, disk_folder
from proxy.cache.disk_file import BLOCK_BYTES, Layout
from proxy.cache.disk_reader import DiskBody, DiskSource
from proxy.cache.entry import Entry, StoredBody
from proxy.cache.head import Now
from proxy.errors import StoredContentError
from proxy.message import Fields, Source
from proxy.rules.ranges import Span

log: Final = logging.getLogger("proxyd.cache")

# Handed to a thread at once; from here on its cost is the disk's.
CHUNK_BYTES: Final = 4 * BLOCK_BYTES
# A pause is asked for, and content is given up, when so much waits for the disk.
PAUSE_BYTES: Final = 1024 * 1024
MOST_WAITING_BYTES: Final = 8 * 1024 * 1024


class Host(Protocol):
    """What a writer needs of the store that began it."""

    root: str
    executor: Executor

    def now(self) -> Now:
        """Return the clocks."""

    def body_of(self, name: bytes, layout: Layout, size_bytes: int) -> StoredBody:
        """Return the content of a file that has its name."""

    def kept(self, entry: Entry, name: bytes, file_bytes: int) -> None:
        """Learn of a new file."""

    def failed(self, error: OSError) -> None:
        """Learn that the disk did not take something."""

    def ended(self, writer: "DiskWriter") -> None:
        """Learn that a writer is done."""


class DiskWriter:
    """The content of `entry`, which is found by others once `commit` has returned it."""

    __slots__ = (
        "_drained",
        "_entry",
        "_file",
        "_host",
        "_is_abandoned",
        "_is_committed",
        "_is_done",
        "_is_pressed",
        "_name",
        "_parts",
        "_task",
        "_waiting_bytes",
        "size_bytes",
    )

    def __init__(
        self, host: Host, entry: Entry, drained: Callable[[], None] = lambda: None
    ) -> None:
        self._host = host
        self._entry = entry
        self._name = disk_folder.name_of(entry.key, entry.variant)
        self._drained = drained
        self._parts: list[bytes] = []
        self._waiting_bytes = 0
        self._is_pressed = False
        self._is_done = False
        self._is_abandoned = False
        self._is_committed = False
        self._task: asyncio.Task[None] | None = None
        self._file = _File(host.root, codec.encode(entry, host.now()))
        self.size_bytes = 0

    @property
    def written_bytes(self) -> int:
        """How much can be read back with `read_back`."""
        return self.size_bytes if self._is_committed else self._file.written * BLOCK_BYTES

    @property
    def gave_up(self) -> bool:
        """Whether the content will never be kept."""
        return self._is_done and not self._is_committed

    def read_back(self, span: Span) -> Source:
        """Return a source of content that is written already. Raises StoredContentError."""
        try:
            # Of the file itself: under its name there may be another worker's by now.
            descriptor = os.dup(self._file.descriptor)
        except OSError as error:
            raise StoredContentError(f"it cannot be read back: {error.strerror}") from None
        file, executor = self._file, self._host.executor
        written = DiskBody("", file.layout, self.written_bytes, executor, log.warning, file.checks)
        return DiskSource(written, descriptor, [span])

    def release(self) -> None:
        """Close what is committed: nobody reads it back any more."""
        if self._is_committed:
            self._file.close()

    def write(self, data: bytes) -> bool:
        """Take the next bytes; False when much is waiting, until `drained` is called.

        After a failure it takes everything and keeps nothing.
        """
        if self._is_done:
            return True
        self.size_bytes += len(data)
        self._parts.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes > MOST_WAITING_BYTES:
            log.info("content comes faster than the disk takes it, and is not stored")
            self._end()
            return True
        if self._waiting_bytes >= CHUNK_BYTES and self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._pump())
        self._is_pressed = self._waiting_bytes > PAUSE_BYTES
        return not self._is_pressed

    async def commit(self, trailers: Fields | None = None) -> Entry | None:
        """Make it an entry that others find; None when it could not be kept."""
        await self.settled()
        if self._is_done:
            return None
        self._end()
        host, entry = self._host, self._entry
        entry.trailers = trailers
        head = codec.encode(entry, host.now(), self.size_bytes)
        try:
            file_bytes = await _finish(
                self._file, self._parts, head, self._name, executor=host.executor
            )
        except OSError as error:
            host.failed(error)
            return None
        if not file_bytes:
            return None
        entry.body = host.body_of(self._name, self._file.layout, self.size_bytes)
        entry.size_bytes = self.size_bytes
        entry.set_fields(entry.fields)
        self._is_committed = True
        host.kept(entry, self._name, file_bytes)
        return entry

    def abandon(self) -> None:
        """Give it up, also what could be read back; nothing of it is found by anybody."""
        if self._is_abandoned or self._is_committed:
            return
        self._is_abandoned = True
        if not self._is_done:
            self._end()
        if self._task is None:
            self._host.executor.submit(self._file.discard)

    async def settled(self) -> None:
        """Wait until no thread writes for it."""
        if self._task is not None:
            await self._task

    def _end(self) -> None:
        self._is_done = True
        if self._task is None:  # else when that lets the file go
            self._host.ended(self)

    async def _pump(self) -> None:
        """Hand what waits to a thread, until less than a chunk is left."""
        while self._waiting_bytes >= CHUNK_BYTES and not self._is_done:
            parts, self._parts = self._parts, []
            try:
                await _add(self._file, parts, executor=self._host.executor)
            except OSError as error:
                self._host.failed(error)
                if not self._is_done:
                    self._end()
            self._waiting_bytes = sum(map(len, self._parts))
            if self._is_pressed and (self._waiting_bytes <= PAUSE_BYTES or self._is_done):
                self._is_pressed = False
                self._drained()
        if self._is_done:
            self._parts.clear()
            file = self._file
            self._host.executor.submit(file.discard if self._is_abandoned else file.unname)
            self._host.ended(self)
        self._task = None


class _File:
    """The file on its way; used by one thread at a time."""

    def __init__(self, root: str, head: bytes) -> None:
        self.layout = disk_file.roomy_layout(disk_folder.new_id(), head)
        self._root = root
        self.descriptor = -1
        self.written = 0  # blocks
        self.checks = bytearray()  # of all blocks so far; they go behind the content
        self._path = ""
        self._carry = b""

    def add(self, parts: list[bytes], *, is_last: bool = False) -> None:
        """Append content in whole blocks, and keep the rest for the next time."""
        if self.descriptor < 0:
            self.descriptor, self._path = disk_folder.create_growing(self._root)
            os.lseek(self.descriptor, self.layout.content_at, os.SEEK_SET)
        data = memoryview(b"".join((self._carry, *parts)))
        stop = len(data) if is_last else len(data) - len(data) % BLOCK_BYTES
        first = len(self.checks) // disk_file.CHECK_BYTES
        self.checks += disk_file.checks(self.layout, first, data[:stop])
        disk_folder.write_all(self.descriptor, [data[:stop]])
        if is_last:  # the last block may be shorter, and is read back when all is committed
            disk_folder.write_all(self.descriptor, [memoryview(self.checks)])
        else:
            self.written = len(self.checks) // disk_file.CHECK_BYTES
        self._carry = bytes(data[stop:])

    def finish(self, head: bytes, name: bytes) -> int:
        """Write the head, and give the file its name; returns its size. It stays open.

        Returns 0 when the head has outgrown the room that was left for it.
        """
        if not disk_file.fits(self.layout, head):
            self.unname()
            return 0
        start = disk_file.prologue(self.layout) + disk_file.slot(self.layout, 0, 1, head)
        os.pwrite(self.descriptor, start, 0)
        file_bytes = os.lseek(self.descriptor, 0, os.SEEK_CUR)
        os.ftruncate(self.descriptor, file_bytes)
        disk_folder.place(self._root, self._path, name)
        self._path = ""
        return file_bytes

    def unname(self) -> None:
        """Remove it unless it has its name; what is in it can be read until it is closed."""
        if self._path:
            path, self._path = self._path, ""
            disk_folder.unlink(path)

    def discard(self) -> None:
        """Close it, and remove it unless it has its name."""
        self.close()
        self.unname()

    def close(self) -> None:
        """Close it; it keeps its name."""
        if self.descriptor >= 0:
            descriptor, self.descriptor = self.descriptor, -1
            os.close(descriptor)

    def __del__(self) -> None:
        self.close()


@wrap
def _add(file: _File, parts: list[bytes]) -> None:
    file.add(parts)


@wrap
def _finish(file: _File, parts: list[bytes], head: bytes, name: bytes) -> int:
    try:
        file.add(parts, is_last=True)
        return file.finish(head, name)
    except OSError:
        file.unname()
        raise
