"""What is done with the files of entries, one at a time or a batch: store, refresh, remove.

Blocking, so called in threads, or where a microsecond is known to do.
"""

import logging
import os
from collections.abc import Sequence
from typing import Final, NamedTuple

from proxy.cache import codec, disk_file, disk_folder
from proxy.cache.disk_load import FIRST_BYTES, MOST_HEAD_BYTES, load_named
from proxy.cache.head import MarkerHead
from proxy.cache.memory import MAX_LISTS
from proxy.cache.store import Marker
from proxy.errors import StoredContentError

log: Final = logging.getLogger("proxyd.cache")


class Put:
    """Store an entry with all of its content; times of jobs are seconds since the epoch."""

    __slots__ = ("body", "head", "keep_until", "name")

    def __init__(self, name: bytes, head: bytes, body: bytes, keep_until: float) -> None:
        self.name = name
        self.head = head
        self.body = body
        self.keep_until = keep_until


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
        layout = disk_file.fixed_layout(disk_folder.new_id(), job.head)
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
    layout = disk_file.fixed_layout(disk_folder.new_id(), head)
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
