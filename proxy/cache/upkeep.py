"""Keeps the disk cache within its limit and its catalogue right, in steps of some milliseconds.

One step does a little of everything that is due:

    fold       enter what workers report (folding.py)
    evict      remove what was not used for the longest time, when there is too much
    expire     remove what is not worth keeping any longer
    describe   read the heads of new files
    scan       compare the catalogue with the folders (scan.py)
    purge      remove what has been purged (purging.py)
    sweep      remove files that were never finished

The catalogue proposes and a file's head decides, but for what is least used: a catalogue that is
wrong costs misses at the worst. One process at a time does this for a folder: cache_keeper.py.
"""

import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from proxy.cache.codec import wall_times
from proxy.cache.describing import described_by, is_purged, told_by
from proxy.cache.disk_folder import TEMPORARY, path_of, remove_leftover, unlink
from proxy.cache.disk_load import read_head, read_head_and_size
from proxy.cache.folding import Folding
from proxy.cache.head import Head, MarkerHead, Now
from proxy.cache.index import (
    BLOCK_BYTES,
    Described,
    Index,
    IndexBusyError,
    IndexDamagedError,
    Row,
    discard,
)
from proxy.cache.journal import seconds
from proxy.cache.purges import Purges
from proxy.cache.purging import Purging
from proxy.cache.scan import Scan
from proxy.errors import PurgeError, StartError, StoredContentError

log = logging.getLogger("proxyd.cache")

# Eviction goes on to here, so that it is not begun anew for every file.
LOW_SHARE = 0.97
# What the file system keeps free for others, as nginx's min_free; 2 % of a small one.
RESERVE_BYTES = 64 << 20
RESERVE_SHARE = 0.02
LOOK_EVERY_S = 10.0
# Files that one duty touches in a step, as nginx's manager_files and loader_files: milliseconds.
STEP_FILES = 100
# Between steps, for each second of CPU and for each that passed: a third of one CPU at the most,
# and a fifth of the time for others who want the disk; nginx's loader rests 50 ms after 200 ms of
# work. Making room comes first.
CPU_REST = 2.0
DISK_REST = 0.25
REST_LEAST_S = 0.005
REST_MOST_S = 0.5
# When nothing is left to do.
IDLE_S = 1.0
# When the catalogue or the folder cannot be used.
TROUBLED_S = 5.0
# A day: what no journal told is found again.
SCAN_EVERY_S = 86400.0
SWEEP_EVERY_S = 600.0
# A file on its way that nobody wrote to for so long, and whose writer does not hold it.
LEFTOVER_S = 3600.0


class Upkeep:
    """The work on one folder; `step` is called again and again, and says when."""

    def __init__(self, folder: Path, limit_bytes: int, now: Callable[[], Now]) -> None:
        """Keep `folder`, which exists, within `limit_bytes` of blocks; `now` reads the clocks."""
        self._folder = folder
        self._root = str(folder)
        self._limit_bytes = limit_bytes
        self._now = now
        self._open: _Catalogue | None = None
        self._target_bytes: int | None = None
        self._look_at = 0.0
        self._evicted = 0
        self._sweep_at = 0.0
        self._complaint = ""

    def step(self) -> float:
        """Do a little of what is due; return the seconds until the next step."""
        began, used = self._now().monotonic, time.thread_time()
        try:
            more = self._work(self._catalogue())
        except IndexDamagedError as error:
            self._give_up(f"is damaged ({error})")
            return REST_LEAST_S
        except (IndexBusyError, PurgeError, StartError, OSError) as error:
            if str(error) != self._complaint:
                log.warning("the cache in %s cannot be kept in order: %s", self._folder, error)
            self._complaint = str(error)
            return TROUBLED_S
        self._complaint = ""
        if not more:
            return IDLE_S
        if self._target_bytes is not None:
            return REST_LEAST_S
        for_cpu_s = (time.thread_time() - used) * CPU_REST
        for_disk_s = (self._now().monotonic - began) * DISK_REST
        return min(max(for_cpu_s, for_disk_s, REST_LEAST_S), REST_MOST_S)

    def close(self) -> None:
        """Close the catalogue."""
        if self._open is not None:
            self._open.close()
            self._open = None

    def _catalogue(self) -> "_Catalogue":
        """Return the open catalogue, a new one when somebody has removed its file."""
        if self._open is not None and not self._open.index.is_current():
            self._open.purges.check()  # or the workers would not learn of the new file at once
            self._give_up("was removed")
        if self._open is None:
            self._open = _Catalogue(self._folder, self._now)
        return self._open

    def _give_up(self, why: str) -> None:
        """Make the catalogue anew; raises OSError."""
        self.close()
        log.warning("the catalogue of the cache in %s %s: it is made again", self._folder, why)
        discard(self._folder)

    def _work(self, catalogue: "_Catalogue") -> bool:
        """Do a step of each duty; True when one of them has more to do."""
        now = self._now()
        index = catalogue.index
        more = [
            catalogue.folding.step(now.monotonic),
            self._evict(index),
            self._expire(index),
            self._describe(index, catalogue.purges),
            catalogue.scan_on(now.monotonic),
            self._purge(catalogue),
        ]
        if now.monotonic >= self._sweep_at:
            sweep(self._folder / TEMPORARY, now.wall - LEFTOVER_S)
            self._sweep_at = now.monotonic + SWEEP_EVERY_S
        return any(more)

    def _evict(self, index: Index) -> bool:
        """Remove what is least used while there is too much; True when there still is."""
        used = index.totals().disk_bytes
        if self._target_bytes is None:
            self._target_bytes = self._target(used)
        if self._target_bytes is None:
            return False
        excess = used - self._target_bytes
        rows = []
        for row in index.least_used(STEP_FILES) if excess > 0 else ():
            rows.append(row)
            excess -= _on_disk(row.size_bytes)
            if excess <= 0:
                break
        self._remove(index, rows)
        self._evicted += len(rows)
        if rows and excess > 0:
            return True
        log.info("%d files made room in the cache in %s", self._evicted, self._folder)
        self._target_bytes = None
        self._evicted = 0
        return False

    def _target(self, used_bytes: int) -> int | None:
        """Return how much may stay when there is too much, for the limit or for the disk."""
        low = int(self._limit_bytes * LOW_SHARE)
        if used_bytes > self._limit_bytes:
            return low
        now = self._now().monotonic
        if not used_bytes or now < self._look_at:
            return None
        # Some file systems count what was removed as free only seconds later.
        self._look_at = now + LOOK_EVERY_S
        status = os.statvfs(self._folder)
        free = status.f_bavail * status.f_frsize
        reserve = min(RESERVE_BYTES, int(status.f_blocks * status.f_frsize * RESERVE_SHARE))
        if free >= reserve:
            return None
        log.warning(
            "only %d bytes are free where the cache in %s is: it has to shrink although its limit"
            " allows more", free, self._folder,
        )  # fmt: skip
        return max(min(low, used_bytes + free - 2 * reserve), 0)

    def _expire(self, index: Index) -> bool:
        """Remove what its head says is not worth keeping; True when there may be more."""
        now = self._now()
        rows = index.past(int(now.wall), STEP_FILES)
        gone = []
        for row in rows:
            until = self._kept_until(row, now)
            if until > now.wall:  # the file is a newer one, or the clock has jumped
                index.keep(row.id, until)
            else:
                gone.append(row)
        self._remove(index, gone)
        return len(rows) == STEP_FILES

    def _kept_until(self, row: Row, now: Now) -> int:
        """Return when a file's time ends, by its head; 0 when nothing holds it."""
        try:
            head = read_head(self._path(row.name))
        except (StoredContentError, OSError):
            return 0
        if isinstance(head, MarkerHead):
            return 0
        return seconds(wall_times(head, now)[0])

    def _purge(self, catalogue: "_Catalogue") -> bool:
        """Remove what a purge names and is older; True when there may be more."""
        catalogue.purges.check()
        rows = catalogue.purging.step()
        if rows is None:
            return False
        now = self._now()
        gone = []
        for row in rows:
            with suppress(StoredContentError, OSError):  # found by others, or gone
                head = read_head(self._path(row.name))
                if isinstance(head, Head) and is_purged(head, now, catalogue.purges):
                    gone.append(row)
        self._remove(catalogue.index, gone)
        return True

    def _describe(self, index: Index, purges: Purges) -> bool:
        """Read the heads of new files; True when there may be more."""
        rows = index.new(STEP_FILES)
        if not rows:
            return False
        described: list[tuple[int, Described]] = []
        gone: list[Row] = []
        now = self._now()
        for row in rows:
            path = self._path(row.name)
            try:
                head, size_bytes = read_head_and_size(path)
            except (StoredContentError, FileNotFoundError) as error:
                if isinstance(error, StoredContentError):
                    log.warning("a damaged file of the cache is removed: %s: %s", path, error)
                gone.append(row)
            except OSError as error:
                log.warning("a file of the cache cannot be read: %s", error)
                described.append((row.id, Described(row.size_bytes)))
            else:
                found = described_by(head, size_bytes, purges, now)
                if found is None:
                    gone.append(row)
                else:
                    described.append((row.id, found))
        index.describe(described)
        self._remove(index, gone)
        return len(rows) == STEP_FILES

    def _remove(self, index: Index, rows: Sequence[Row]) -> None:
        """Remove files and their rows; one that cannot be removed is found by the next scan."""
        for row in rows:
            try:
                unlink(self._path(row.name))
            except OSError as error:
                log.warning("a file of the cache cannot be removed: %s", error)
        if rows:
            index.remove([row.id for row in rows])

    def _path(self, name: bytes) -> str:
        return path_of(self._root, name)


class _Catalogue:
    """An open catalogue, and what works on it."""

    def __init__(self, folder: Path, now: Callable[[], Now]) -> None:
        root = str(folder)
        with ExitStack() as opened:
            self.index = Index(folder)
            opened.callback(self.index.close)
            self.purges = Purges(folder)
            opened.callback(self.purges.close)
            self.purging = Purging(folder, self.index)
            opened.callback(self.purging.close)
            self.close = opened.pop_all().close
        self.folding = Folding(
            folder,
            self.index,
            lambda name: os.path.exists(path_of(root, name)),
            self._begin_scan,
            lambda record: told_by(record, self.purges, now()),
        )
        self._folder = folder
        self._scan: Scan | None = None
        self._scan_at = 0.0

    def _begin_scan(self) -> None:
        self._scan = Scan(self._folder, self.index, time.time() - LEFTOVER_S)

    def scan_on(self, now: float) -> bool:
        """Go on with the pass over the folders that is due; False when there was none."""
        if self._scan is None and now >= self._scan_at:
            self._begin_scan()
        scan = self._scan
        if scan is None:
            return False
        if scan.step():
            return True
        if scan.added or scan.forgotten:
            log.info(
                "the catalogue of the cache in %s was made right: %d files were not in it, %d that"
                " were in it are gone", self._folder, scan.added, scan.forgotten,
            )  # fmt: skip
        self._scan = None
        self._scan_at = now + SCAN_EVERY_S
        return True  # what it found is to be described


def sweep(folder: Path, before: float) -> None:
    """Remove files that were last written before then and that no writer holds."""
    with suppress(OSError), os.scandir(folder) as listing:
        for file in listing:
            remove_leftover(file.path, before)


def _on_disk(size_bytes: int) -> int:
    return -(-size_bytes // BLOCK_BYTES) * BLOCK_BYTES
