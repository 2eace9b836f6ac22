"""What is done with the files of entries, one at a time or a batch: load, store, refresh, remove.

Blocking, so called in threads; `load_now` is for the event loop.
"""

import logging
import os
import secrets
import threading
from collections.abc import Sequence
from typing import Final, NamedTuple, cast

import msgspec

from proxy.cache import codec, disk_file, disk_folder
from proxy.cache.codec import Head, MarkerHead
from proxy.cache.disk_file import Layout
from proxy.cache.disk_reader import read_into
from proxy.cache.memory import MAX_LISTS
from proxy.cache.store import LATER, Later, Marker
from proxy.errors import StoredContentError
from proxy.page_cache import NOWAIT

log = logging.getLogger("proxyd.cache")

# The first read of a file: a head of common size with one block behind it.
FIRST_BYTES: Final = 80 * 1024
# The first read of a file whose content nobody wants: a page, which holds most heads.
HEAD_BYTES: Final = 4096
# What the event loop reads and checks in one go, 100 µs; more is read in a thread.
AT_ONCE_BYTES: Final = 256 * 1024
# Upstream heads are limited to 64 KiB by default; a file that claims more is none of ours.
MOST_HEAD_BYTES: Final = 4 * 1024 * 1024


class _Landing(threading.local):
    """Where the first reads of one thread land."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(FIRST_BYTES))


_landing = _Landing()


class Loaded(NamedTuple):
    """A file's head, where its content is, and the content itself unless it is large."""

    head: Head
    layout: Layout
    body: bytes | None


class Put(NamedTuple):
    """Store an entry with all of its content; times of jobs are seconds since the epoch."""

    name: bytes
    head: bytes
    body: bytes
    keep_until: float


class Refresh(NamedTuple):
    """Change the head of the file with that id."""

    name: bytes
    file_id: bytes
    head: bytes
    keep_until: float


class Mark(NamedTuple):
    """Say that `key` has entries with that list of Vary names."""

    name: bytes
    key: bytes
    vary: tuple[bytes, ...]
    keep_until: float


class Drop(NamedTuple):
    """Remove a file; `reason` is logged, empty when it is nobody's fault."""

    name: bytes
    reason: str = ""


Job = Put | Refresh | Mark | Drop


def load(descriptor: int, most_bytes: int) -> Loaded | MarkerHead:
    """Read an open file, with its content if that is no more than `most_bytes`.

    Raises StoredContentError, OSError.
    """
    return cast("Loaded | MarkerHead", _load(descriptor, most_bytes, 0))


def load_now(descriptor: int, most_bytes: int) -> Loaded | MarkerHead | Later:
    """As `load`, and LATER instead of waiting for the disk; only where there is NOWAIT."""
    return _load(descriptor, most_bytes, NOWAIT)


def _load(descriptor: int, most_bytes: int, flags: int) -> Loaded | MarkerHead | Later:
    view = _landing.view
    view = view[: read_into(descriptor, view, 0, flags)]
    if flags and len(view) < disk_file.PROLOGUE_BYTES:
        return LATER
    layout = disk_file.parse_prologue(view)
    if layout.content_at > MOST_HEAD_BYTES:
        raise StoredContentError("its head is too large")
    if layout.content_at > len(view):
        if flags:
            return LATER
        view = _more(descriptor, view, layout.content_at, 0)
    head = _decode(disk_file.newest_slot(view, layout).head)
    if isinstance(head, MarkerHead):
        return head
    if head.size_bytes > most_bytes:
        expected = layout.content_at + disk_file.stored_bytes(head.size_bytes)
        if os.fstat(descriptor).st_size < expected:
            raise StoredContentError("it is cut short")
        return Loaded(head, layout, None)
    body = _content(descriptor, view, layout, head.size_bytes, flags)
    return LATER if body is None else Loaded(head, layout, body)


def _decode(data: bytes) -> Head | MarkerHead:
    try:
        return codec.decode(data)
    except msgspec.DecodeError:
        raise StoredContentError("its head is of another make") from None


def _content(
    descriptor: int, view: memoryview, layout: Layout, size_bytes: int, flags: int
) -> bytes | None:
    """Return all of the content, None when `flags` forbid to wait for it."""
    stop = layout.content_at + disk_file.stored_bytes(size_bytes)
    if len(view) < stop:
        if flags and stop > AT_ONCE_BYTES:
            return None
        view = _more(descriptor, view, stop, flags)
        if flags and len(view) < stop:
            return None
    return bytes(disk_file.whole_content(layout, view[layout.content_at :], size_bytes))


def _more(descriptor: int, view: memoryview, wanted: int, flags: int) -> memoryview:
    """Return the file up to `wanted`, of which `view` is the start; less where it ends."""
    whole = memoryview(bytearray(wanted))
    whole[: len(view)] = view
    count = read_into(descriptor, whole[len(view) :], len(view), flags)
    return whole[: len(view) + count]


def load_named(root: str, name: bytes, most_bytes: int) -> Loaded | MarkerHead | None:
    """Open the file of that name and `load` it; None when there is none.

    Raises StoredContentError, OSError.
    """
    try:
        descriptor = os.open(disk_folder.path_of(root, name), disk_folder.READ_FLAGS)
    except FileNotFoundError:
        return None
    try:
        return load(descriptor, most_bytes)
    finally:
        os.close(descriptor)


def read_head(path: str) -> Head | MarkerHead:
    """Return the head of a file, and none of its content.

    Raises StoredContentError, OSError.
    """
    return read_head_and_size(path)[0]


def read_head_and_size(path: str) -> tuple[Head | MarkerHead, int]:
    """Return the head of a file, and the file's size in bytes.

    Raises StoredContentError, OSError.
    """
    descriptor = os.open(path, disk_folder.READ_FLAGS)
    try:
        size_bytes = os.fstat(descriptor).st_size
        start = os.pread(descriptor, HEAD_BYTES, 0)
        layout = disk_file.parse_prologue(start)
        if layout.content_at > MOST_HEAD_BYTES:
            raise StoredContentError("its head is too large")
        if layout.content_at > len(start):
            start = os.pread(descriptor, layout.content_at, 0)
    finally:
        os.close(descriptor)
    head = _decode(disk_file.newest_slot(start, layout).head)
    if isinstance(head, Head):
        expected = layout.content_at + disk_file.stored_bytes(head.size_bytes)
        if size_bytes < expected:
            raise StoredContentError("it is cut short")
    return head, size_bytes


def do_all(root: str, jobs: Sequence[Job]) -> list[int | Exception]:
    """Do jobs in order; returns the size of the file of each, 0 when it has none now.

    The first failure to write is that of all that would be written after it. What was not foreseen
    is the end of one job only, and stops nobody who does this for all.
    """
    results: list[int | Exception] = []
    failure: OSError | None = None
    for job in jobs:
        if failure is not None and not isinstance(job, Drop):
            results.append(failure)
            continue
        try:
            results.append(_do(root, job))
        except OSError as error:
            results.append(error)
            failure = error
        except Exception as error:
            results.append(error)
    return results


def _do(root: str, job: Job) -> int:
    if isinstance(job, Put):
        layout = disk_file.fixed_layout(secrets.token_bytes(disk_file.ID_BYTES), job.head)
        return disk_folder.store_whole(
            root, job.name, disk_file.whole_file(layout, job.head, job.body)
        )
    if isinstance(job, Mark):
        return _mark(root, job)
    if isinstance(job, Refresh):
        return _refresh(root, job)
    if job.reason:
        log.warning("a damaged file of the disk cache is removed: %s", job.reason)
    disk_folder.unlink(disk_folder.path_of(root, job.name))
    return 0


def _mark(root: str, job: Mark) -> int:
    """Put a list of Vary names first in the marker of a key; returns the marker's size."""
    lists: tuple[tuple[bytes, ...], ...] = ()
    try:
        held = load_named(root, job.name, -1)
    except StoredContentError:
        held = None
    if isinstance(held, MarkerHead) and held.key == job.key:
        lists = held.lists
    others = [names for names in lists if names != job.vary]
    head = codec.encode_marker(Marker(job.key, (job.vary, *others[: MAX_LISTS - 1])))
    layout = disk_file.fixed_layout(secrets.token_bytes(disk_file.ID_BYTES), head)
    parts = disk_file.whole_file(layout, head, b"")
    if lists[:1] == (job.vary,):
        return sum(map(len, parts))
    return disk_folder.store_whole(root, job.name, parts)


def _refresh(root: str, job: Refresh) -> int:
    """Write a new head into the older slot; a file that has no room for it is removed.

    Returns 0 when there is no such file any more.
    """
    try:
        descriptor = disk_folder.open_for_update(root, job.name)
    except FileNotFoundError:
        return 0
    try:
        start = os.pread(descriptor, FIRST_BYTES, 0)
        layout = disk_file.parse_prologue(start)
        if layout.file_id != job.file_id:
            return os.fstat(descriptor).st_size
        if layout.content_at > len(start):
            start = os.pread(descriptor, min(layout.content_at, MOST_HEAD_BYTES), 0)
        newest = disk_file.newest_slot(start, layout)
        if layout.slots > 1 and disk_file.fits(layout, job.head):
            number = (newest.number + 1) % layout.slots
            data = disk_file.slot(layout, number, newest.generation + 1, job.head)
            os.pwrite(descriptor, data, disk_file.slot_offset(layout, number))
            return os.fstat(descriptor).st_size
    except StoredContentError:
        pass
    finally:
        os.close(descriptor)
    disk_folder.unlink(disk_folder.path_of(root, job.name))
    return 0
