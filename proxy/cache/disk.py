"""The entries on disk, shared by all workers of the machine: looked up, stored, removed.

A look-up reads what is in the page cache without leaving the event loop, and says LATER for the
rest, which `read` does in a thread. Changes are queued and done in order, a few in one turn of the
loop: a small file goes into the page cache in less time than a thread takes to be woken. As soon as
that took long, they are done in a thread for some seconds, many in one go. Files are renamed into
place and never shared with a change, so processes need no lock between them.

Whatever the disk does is a miss, which the log explains: a file that is damaged is removed, and
after a failure to write (a full disk above all) nothing is written for some seconds.
"""

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Final, Protocol

from aiofiles.os import wrap

from proxy.cache import codec, disk_load, disk_work
from proxy.cache.boot import boot_name
from proxy.cache.disk_file import Layout
from proxy.cache.disk_folder import Complaints, name_of, path_of
from proxy.cache.disk_load import Loaded
from proxy.cache.disk_open import open_to_read
from proxy.cache.disk_reader import DiskBody
from proxy.cache.disk_work import Drop, Job, Mark, Put, Refresh
from proxy.cache.disk_writer import DiskWriter
from proxy.cache.entry import Entry
from proxy.cache.head import MarkerHead, Now
from proxy.cache.memory import TOUCH_S
from proxy.cache.sealed import Copies
from proxy.cache.store import LATER, Later, Marker
from proxy.errors import StoredContentError
from proxy.page_cache import NOWAIT

log: Final = logging.getLogger("proxyd.cache")

# nginx's thread pool has 32 threads; these wait for one disk, and leave Python to the event loop.
THREADS: Final = 8
# What waits in the queue; more is not stored.
MOST_JOBS: Final = 10_000
MOST_QUEUED_BYTES: Final = 32 * 1024 * 1024
BATCH_JOBS: Final = 64
# What the event loop writes in one turn, half a millisecond; and what makes it leave that to a
# thread, and for how long: forty times what it should have been, and more than its turn of a CPU.
TURN_JOBS: Final = 8
TURN_BYTES: Final = 256 * 1024
SLOW_S: Final = 0.02
SLOW_FOR_S: Final = 10.0
# Squid keeps trying and fills its log; Varnish evicts; nginx logs each. The keeper makes room.
PAUSE_S: Final = 10.0


class Journal(Protocol):
    """Who keeps account of the files; names are of 16 bytes."""

    def put(self, name: bytes, size_bytes: int, keep_until: float, head: bytes = b"") -> None:
        """Note a new or a changed file; `keep_until` is in seconds since the epoch.

        `head` is that of its entry, where it is at hand.
        """

    def touch(self, name: bytes) -> None:
        """Note a use."""

    def drop(self, name: bytes) -> None:
        """Note that a file was removed."""


class DiskStore:
    """The entries below `root`; content up to `object_bytes` is read into memory, more streams.

    Used on the event loop only. `writers` bounds the contents that stream into it at once, and
    `copies_bytes` what is kept in memory of content that streams from it.
    """

    def __init__(  # noqa: PLR0913
        self,
        root: Path,
        journal: Journal,
        *,
        object_bytes: int = 1024 * 1024,
        copies_bytes: int = 0,
        writers: int = 64,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        boot: bytes | None = None,
    ) -> None:
        self.root = str(root)
        self.executor: Executor = ThreadPoolExecutor(THREADS, "proxyd-disk")
        self._journal = journal
        self._object_bytes = object_bytes
        self._copies = Copies(copies_bytes, monotonic)
        self._most_writers = writers
        self._writers: set[DiskWriter] = set()
        self._wall = wall
        self._monotonic = monotonic
        self._boot = boot_name() if boot is None else boot
        self._complaints = Complaints(monotonic)
        self._paused_until = -1.0
        self._jobs: deque[Job] = deque()
        self._queued_bytes = 0
        self._turn: asyncio.Handle | None = None
        self._worker: asyncio.Task[None] | None = None
        self._slow_until = -1.0
        self._is_closed = False

    def now(self) -> Now:
        """Return the clocks."""
        return Now(self._wall(), self._monotonic(), self._boot)

    def read_now(self, key: bytes, variant: bytes = b"") -> Entry | Marker | Later | None:
        """Look up without waiting for the disk; LATER when that is not possible."""
        name = name_of(key, variant)
        try:
            descriptor = open_to_read(path_of(self.root, name))
        except OSError as error:
            self._complaints.add("read", error)
            return None
        if descriptor < 0:
            return None
        if not NOWAIT:
            os.close(descriptor)
            return LATER
        try:
            loaded = disk_load.load_now(descriptor, self._object_bytes)
        except (StoredContentError, OSError) as error:
            self._missed(name, error)
            return None
        finally:
            os.close(descriptor)
        if isinstance(loaded, Later):
            return LATER
        return self._found(name, key, variant, loaded)

    async def read(self, key: bytes, variant: bytes = b"") -> Entry | Marker | None:
        """Look up in a thread; None is a miss."""
        name = name_of(key, variant)
        try:
            loaded = await _load_named(self.root, name, self._object_bytes, executor=self.executor)
        except (StoredContentError, OSError) as error:
            self._missed(name, error)
            return None
        return None if loaded is None else self._found(name, key, variant, loaded)

    def _missed(self, name: bytes, error: StoredContentError | OSError) -> None:
        if isinstance(error, OSError):
            self._complaints.add("read", error)
        else:
            self._remove_damaged(name, str(error))

    def _found(
        self, name: bytes, key: bytes, variant: bytes, loaded: Loaded | MarkerHead
    ) -> Entry | Marker | None:
        """Make an entry or a marker of what was read, unless it is of another key."""
        if isinstance(loaded, MarkerHead):
            if loaded.key != key or variant:
                return None
            self._journal.touch(name)
            return Marker(key, loaded.lists)
        head = loaded.head
        if head.key != key or head.variant != variant:
            return None
        self._journal.touch(name)
        body = loaded.body
        now = self.now()
        entry = codec.entry_of(
            head,
            self.body_of(name, loaded.layout, head.size_bytes) if body is None else body,
            now,
        )
        entry.touch_at = now.monotonic + TOUCH_S
        return entry

    def body_of(self, name: bytes, layout: Layout, size_bytes: int) -> DiskBody:
        """Return the content of the file of that name."""
        return DiskBody(
            path_of(self.root, name),
            layout,
            size_bytes,
            self.executor,
            lambda reason: self._remove_damaged(name, reason),
            copies=self._copies,
        )

    def touch(self, entry: Entry) -> None:
        """Learn that `entry`, read from here or put here, was used."""
        self._journal.touch(name_of(entry.key, entry.variant))
        if entry.vary:
            self._journal.touch(name_of(entry.key, b""))

    def put(self, entry: Entry) -> bool:
        """Queue an entry with its content, or the new head of one whose content is here.

        False when it will not be stored: the disk failed lately, or is behind.
        """
        now = self.now()
        name, keep_until = name_of(entry.key, entry.variant), self._keep_until(entry, now)
        head = codec.encode(entry, now)
        body = entry.body
        if isinstance(body, DiskBody):
            return self._queue(Refresh(name, body.file_id, head, keep_until))
        if not isinstance(body, bytes):
            return False
        if not self._queue(Put(name, head, body, keep_until)):
            return False
        self._queue_marker(entry, keep_until)
        return True

    def _queue_marker(self, entry: Entry, keep_until: float) -> None:
        if entry.vary:
            self._queue(Mark(name_of(entry.key, b""), entry.key, entry.vary, keep_until))

    def _keep_until(self, entry: Entry, now: Now) -> float:
        return now.wall + (entry.keep_until - now.monotonic)

    def drop(self, key: bytes, variant: bytes = b"") -> bool:
        """Queue the removal of one entry, or of a marker; False when too much is queued."""
        return self._queue(Drop(name_of(key, variant)))

    def begin(self, entry: Entry, drained: Callable[[], None] = lambda: None) -> DiskWriter | None:
        """Begin to store the content of `entry` as it comes; None when that is not possible now.

        The writer's `commit` gives `entry` its body and its size.
        """
        if len(self._writers) >= self._most_writers or self._monotonic() < self._paused_until:
            return None
        if self._is_closed:
            return None
        writer = DiskWriter(self, entry, drained)
        self._writers.add(writer)
        return writer

    def kept(self, entry: Entry, name: bytes, file_bytes: int) -> None:
        """Learn of a new file from its writer."""
        keep_until = self._keep_until(entry, self.now())
        self._journal.put(name, file_bytes, keep_until)
        self._queue_marker(entry, keep_until)

    def ended(self, writer: DiskWriter) -> None:
        """Learn that a writer is done."""
        self._writers.discard(writer)

    def failed(self, error: OSError) -> None:
        """Write nothing for some seconds: the disk did not take something."""
        self._paused_until = self._monotonic() + PAUSE_S
        self._complaints.add("written", error)

    def _remove_damaged(self, name: bytes, reason: str) -> None:
        self._queue(Drop(name, f"{path_of(self.root, name)}: {reason}"))

    def _queue(self, job: Job) -> bool:
        size_bytes = 0 if isinstance(job, Drop) else _queued(job)
        if self._is_closed or (size_bytes and self._monotonic() < self._paused_until):
            return False
        if len(self._jobs) >= MOST_JOBS or self._queued_bytes + size_bytes > MOST_QUEUED_BYTES:
            return False
        self._jobs.append(job)
        self._queued_bytes += size_bytes
        if self._turn is None and self._worker is None:
            self._turn = asyncio.get_running_loop().call_soon(self._take_turn)
        return True

    def _take_turn(self) -> None:
        """Do some of what is queued, or have a thread do all of it."""
        loop = asyncio.get_running_loop()
        self._turn = None
        began = self._monotonic()
        if began < self._slow_until or self._queued_bytes > TURN_BYTES:
            self._worker = loop.create_task(self._work())
            return
        batch = self._next(TURN_JOBS)
        self._account(batch, disk_work.do_all(self.root, batch))
        if self._monotonic() - began > SLOW_S:
            self._slow_until = began + SLOW_FOR_S
        if self._jobs:
            self._turn = loop.call_soon(self._take_turn)

    async def _work(self) -> None:
        """Do what is queued in a thread, a batch at a time."""
        while self._jobs:
            batch = self._next(BATCH_JOBS)
            self._account(batch, await _do_all(self.root, batch, executor=self.executor))
        self._worker = None

    def _next(self, most: int) -> list[Job]:
        jobs = self._jobs
        return [jobs.popleft() for _ in range(min(len(jobs), most))]

    def _account(self, batch: list[Job], results: list[int | Exception]) -> None:
        for job, result in zip(batch, results, strict=True):
            self._queued_bytes -= _queued(job)
            self._note(job, result)

    def _note(self, job: Job, result: int | Exception) -> None:
        if isinstance(result, OSError):
            self.failed(result)
        elif isinstance(result, Exception):
            self._complaints.add("written", result)
        elif result and isinstance(job, (Put, Refresh)):
            self._journal.put(job.name, result, job.keep_until, job.head)
        elif result and isinstance(job, Mark):
            self._journal.put(job.name, result, job.keep_until)
        else:
            self._journal.drop(job.name)

    async def flush(self) -> None:
        """Have what is queued done."""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
            self._worker = asyncio.get_running_loop().create_task(self._work())
        if self._worker is not None:
            await self._worker

    async def close(self) -> None:
        """Give up what is still streaming, finish what is queued, and take nothing more."""
        for writer in list(self._writers):
            writer.abandon()
            await writer.settled()
        self._is_closed = True
        await self.flush()
        self._copies.clear()
        self.executor.shutdown(wait=False)


_load_named: Final = wrap(disk_load.load_named)
_do_all: Final = wrap(disk_work.do_all)


def _queued(job: Job) -> int:
    """Return what a job takes in the queue."""
    if isinstance(job, Put):
        return len(job.head) + len(job.body)
    return len(job.head) if isinstance(job, Refresh) else 0
