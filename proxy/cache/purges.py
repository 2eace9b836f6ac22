"""What has been purged, on whatever worker: compared with an entry when it is used next.

As Varnish's bans: nothing is searched for when somebody purges. An entry carries the number of the
newest purge that it was compared with, a hit compares two numbers, and when there are newer purges
those are tried once. An entry takes its number before its request goes upstream, so that a purge
while it is fetched applies to it.
"""

import enum
import fnmatch
import logging
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from proxy.cache.entry import Entry
from proxy.cache.purge_file import SLOTS, PurgeFile, Record
from proxy.errors import PurgeError, StartError

log: Final = logging.getLogger("proxyd.cache")

PURGES: Final = "purges"
_SEQUENCE: Final = 1


class Kind(enum.IntEnum):
    """What a purge's argument says."""

    URL = 1
    PREFIX = 2
    # "*" stands for any characters, everything else for itself.
    PATTERN = 3
    TAG = 4
    ALL = 5


class Verdict(enum.IntEnum):
    """What becomes of an entry; as the mode of a purge, what becomes of those that it is about."""

    NOTHING = 0
    # Stale from now on; grace still serves it.
    SOFT = 1
    # Not to be used before it has been validated. RFC 9111 §4.4.
    INVALID = 2
    # Gone.
    HARD = 3


# By mode, the sequence of the newest purge.
_Newest = list[int]


class Purges:
    """The purges of a cache, in a file in `folder` that all its processes share.

    Raises StartError when the file cannot be used. `current` returns the number of the newest.
    """

    current: Callable[[], int]

    def __init__(self, folder: Path) -> None:
        self._path = folder / PURGES
        self._is_missing = False
        self._open()

    def _open(self) -> None:
        try:
            self._path.parent.mkdir(0o700, parents=True, exist_ok=True)
            self._file = PurgeFile(self._path)
        except (OSError, PurgeError) as error:
            raise StartError(
                f"the cache cannot keep its purges in {self._path}: {error};"
                " the folder must exist and be writable, see [cache] and [server] state_dir"
            ) from None
        words = self._file.words
        # As a method of ours it would cost every hit a call more.
        self.current = lambda: words[_SEQUENCE]
        self._forget()

    def _forget(self) -> None:
        self._seen = 0
        self._read = 0
        self._urls: dict[bytes, _Newest] = {}
        self._tags: dict[bytes, _Newest] = {}
        self._prefixes: dict[bytes, _Newest] = {}
        self._patterns: dict[bytes, _Newest] = {}
        self._compiled: dict[bytes, re.Pattern[bytes]] = {}
        self._all: _Newest = [0, 0, 0, 0]

    def add(self, kind: Kind, mode: Verdict, argument: bytes = b"") -> int:
        """Purge; in effect on every worker when this returns. Returns the purge's number.

        Raises PurgeError.
        """
        if not argument and kind is not Kind.ALL:
            raise PurgeError("a purge needs to say of what; use `all` for everything")
        return self._note(lambda file: file.append(kind, mode, argument))

    def invalidate(self, url: bytes) -> int:
        """Have what is stored for `url` validated before it is used. RFC 9111 §4.4."""
        return self._note(lambda file: file.invalidate(url))

    def _note(self, write: Callable[[PurgeFile], int | None]) -> int:
        """Write into the file that all others use. Raises PurgeError."""
        self.check()
        sequence = write(self._file)
        if sequence is None:  # another process has just made one in its place
            self.check()
            sequence = write(self._file)
        if sequence is None:
            raise PurgeError(f"{self._path} was removed, and cannot be made again")
        return sequence

    def invalidate_tag(self, tag: bytes) -> int:
        """Have what is stored with `tag` validated before it is used. RFC 9875 §3."""
        return self.add(Kind.TAG, Verdict.INVALID, tag)

    def verdict(self, entry: Entry) -> Verdict:
        """Say what the purges since the last time mean for `entry`, once.

        What is not NOTHING has to be done to the entry by the caller; see `apply`.
        """
        if self._seen != self.current() and not self._catch_up():
            return Verdict.INVALID
        since = entry.purge_seq
        entry.purge_seq = self._seen
        if self._file.floor <= since <= self._seen:
            return self._tried(entry, since)
        # Older than what is remembered, or of another file.
        return max(self._tried(entry, since if since <= self._seen else 0), Verdict.INVALID)

    def apply(self, entry: Entry, now: float) -> bool:
        """Do to `entry` what the purges say; False when it is not to be used again."""
        verdict = self.verdict(entry)
        if verdict is Verdict.HARD:
            return False
        if verdict is Verdict.INVALID:
            entry.no_cache = True
            entry.fresh_until = min(entry.fresh_until, now)
            entry.swr_until = min(entry.swr_until, now)
            entry.sie_until = min(entry.sie_until, now)
        elif verdict is Verdict.SOFT and entry.fresh_until > now:
            # By a hair, so that a `ttl` rounded down is negative: a worker that gets it from
            # another one tells by that alone what is stale from what is fresh.
            stale_from = math.nextafter(now, -math.inf)
            earlier_s = entry.fresh_until - stale_from
            entry.fresh_until = stale_from
            entry.swr_until -= earlier_s
            entry.sie_until -= earlier_s
        return True

    def records(self) -> list[Record]:
        """Return the purges that are remembered, oldest first. Raises PurgeError."""
        with self._file.locked():
            return list(self._file.records(0))

    def check(self) -> None:
        """See that the file is still the one that others use; called about once a second.

        When somebody has removed it, it is made again, and all that is stored must be validated.
        Others learn of it at their next hit.
        """
        held = self._file
        if held.is_in_place() and not held.is_retired:
            return
        try:
            self._open()
        except StartError as error:
            if not self._is_missing:
                log.warning("%s was removed: %s", self._path, error)
            self._is_missing = True
            return
        self._is_missing = False
        log.warning("%s was removed: stored entries will be validated", self._path)
        if not held.is_in_place():
            try:
                held.retire()
            except PurgeError as error:
                log.warning("%s", error)
        held.close()

    def close(self) -> None:
        """Close the file; nothing may be asked any more."""
        self._file.close()

    def _tried(self, entry: Entry, since: int) -> Verdict:
        """Return the strictest verdict of the purges after `since`."""
        url = entry.key.partition(b" ")[0]
        worst = _worst(self._all, since)
        worst = max(worst, _worst(self._urls.get(url), since))
        for tag in entry.tags:
            worst = max(worst, _worst(self._tags.get(tag), since))
        # Ordered by their newest purge: the first that is too old ends the search.
        for prefix in reversed(self._prefixes):
            newest = self._prefixes[prefix]
            if max(newest) <= since:
                break
            if url.startswith(prefix):
                worst = max(worst, _worst(newest, since))
        for pattern in reversed(self._patterns):
            newest = self._patterns[pattern]
            if max(newest) <= since:
                break
            if self._compiled[pattern].match(url):
                worst = max(worst, _worst(newest, since))
        if self._file.invalidated(url) > since:
            worst = max(worst, Verdict.INVALID)
        return worst

    def _catch_up(self) -> bool:
        """Learn of the purges that others added; False when the file cannot be read now."""
        if self._file.is_retired:
            self.check()
        file = self._file
        if file.is_retired:
            return False
        try:
            with file.locked():
                sequence = self.current()
                if not file.floor <= self._seen <= sequence:
                    self._forget()
                try:
                    for record in file.records(self._read):
                        self._learn(record)
                except PurgeError:
                    file.begin_anew()
                    self._forget()
                    sequence = self.current()
                self._read = file.written
                self._seen = sequence
        except (OSError, PurgeError) as error:
            log.warning("purges cannot be read, entries are validated: %s", error)
            return False
        self._drop_old()
        return True

    def _learn(self, record: Record) -> None:
        kind, argument = record.kind, record.argument
        if kind == Kind.ALL:
            self._all[record.mode] = record.sequence
            return
        table = self._table(kind)
        newest = table.pop(argument, None) or [0, 0, 0, 0]
        newest[record.mode] = record.sequence
        table[argument] = newest
        if kind == Kind.PATTERN and argument not in self._compiled:
            self._compiled[argument] = _compile(argument)

    def _table(self, kind: int) -> dict[bytes, _Newest]:
        if kind == Kind.URL:
            return self._urls
        if kind == Kind.TAG:
            return self._tags
        return self._prefixes if kind == Kind.PREFIX else self._patterns

    def _drop_old(self) -> None:
        """Forget what the file has forgotten, so that no more than its slots are remembered."""
        for table in (self._urls, self._tags, self._prefixes, self._patterns):
            while len(table) > SLOTS:
                oldest = next(iter(table))
                del table[oldest]
                if table is self._patterns:
                    del self._compiled[oldest]


def _worst(newest: _Newest | None, since: int) -> Verdict:
    if newest is None or max(newest) <= since:
        return Verdict.NOTHING
    if newest[Verdict.HARD] > since:
        return Verdict.HARD
    return Verdict.INVALID if newest[Verdict.INVALID] > since else Verdict.SOFT


def _compile(pattern: bytes) -> re.Pattern[bytes]:
    """Return a pattern in which only "*" is special; fnmatch's take no more than linear time."""
    text = pattern.decode("latin-1").replace("[", "[[]").replace("?", "[?]")
    return re.compile(fnmatch.translate(text).encode("latin-1"))
