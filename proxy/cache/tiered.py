"""The cache of one worker: memory over disk, and the purges that hold for both.

`Tiered` is what the steps ask. A hit in memory is one look-up in a dict and one comparison of two
numbers; what has to look further says so with LATER.
"""

from collections.abc import Callable
from typing import Any, Protocol

from proxy.cache.entry import Entry
from proxy.cache.flights import Flights, Selector
from proxy.cache.memory import MemoryStore, Variants
from proxy.cache.purges import Kind, Verdict
from proxy.cache.store import Later, Marker, Store, Writer


class Purges(Protocol):
    """What has been purged, on whatever worker; see `cache.purges`."""

    def current(self) -> int:
        """Return the number of the newest purge."""

    def apply(self, entry: Entry, now: float) -> bool:
        """Compare `entry` with all purges newer than it; False when it is not to be used again.

        A soft purge makes it stale, an invalidation makes it need validation.
        """

    def verdict(self, entry: Entry) -> Verdict:
        """Say what the purges since the last time mean for `entry`, once."""

    def add(self, kind: Kind, mode: Verdict, argument: bytes = b"") -> object:
        """Purge; in effect on every worker when this returns. Raises PurgeError."""

    def invalidate(self, url: bytes) -> object:
        """Have all entries of a URL (`cache_key.key_url`) validated. RFC 9111 §4.4."""

    def invalidate_tag(self, tag: bytes) -> object:
        """Have all entries with a tag validated. RFC 9875."""


class NoPurges:
    """Where nothing can be purged."""

    def current(self) -> int:
        """Return the number of the newest purge."""
        return 0

    def apply(self, entry: Entry, now: float) -> bool:
        """Nothing happens to it."""
        return True

    def verdict(self, entry: Entry) -> Verdict:
        """Nothing happens to it."""
        return Verdict.NOTHING

    def add(self, kind: Kind, mode: Verdict, argument: bytes = b"") -> None:
        """There is nobody to remember it."""

    def invalidate(self, url: bytes) -> None:
        """There is nobody to remember it."""

    def invalidate_tag(self, tag: bytes) -> None:
        """There is nobody to remember it."""


class Tiered:
    """Finds and keeps entries."""

    __slots__ = ("disk", "flights", "get", "memory", "memory_object_bytes", "purges")

    def __init__(
        self,
        memory: MemoryStore,
        disk: Store | None,
        purges: Purges,
        memory_object_bytes: int,
    ) -> None:
        self.memory = memory
        self.disk = disk
        self.purges = purges
        self.memory_object_bytes = memory_object_bytes
        # As a method of ours it would cost every hit a call more.
        self.get = memory.get
        self.flights: Flights[Any] = Flights()

    def chosen(self, held: Variants, selector: Selector) -> Entry | None:
        """Choose of several entries in memory the newest that fits a request. RFC 9111 §4.1."""
        newest: Entry | None = None
        for names, entries in held.lists:
            entry = entries.get(selector.variant(names))
            if entry is not None:
                newest = newer(entry, newest)
        return newest

    def unpurged(self, entry: Entry, now: float) -> bool:
        """Compare `entry` with the purges that are newer than it; False when it had to go."""
        if self.purges.apply(entry, now):
            return True
        self.memory.remove(entry)
        return False

    def purged_since(self, entry: Entry) -> bool:
        """Whether a purge is about `entry` that it has not been compared with; it still is not."""
        since = entry.purge_seq
        if since == self.purges.current():
            return False
        verdict = self.purges.verdict(entry)
        entry.purge_seq = since
        return verdict is not Verdict.NOTHING

    def keep(self, entry: Entry) -> None:
        """Store an entry whose content is in memory, or the new head of one that is stored."""
        self.memory.put(entry)
        if self.disk is not None:
            self.disk.put(entry)

    def touch(self, entry: Entry, now: float) -> None:
        """Learn that `entry` was used; called when `now` has reached its `touch_at`."""
        self.memory.touch(entry, now)
        if self.disk is not None:
            self.disk.touch(entry)

    def begin(self, entry: Entry, drained: Callable[[], None]) -> Writer | None:
        """Begin to store content that is too large for memory; None when that is not possible."""
        return None if self.disk is None else self.disk.begin(entry, drained)

    def remove(self, entry: Entry) -> None:
        """Give up an entry, wherever it is."""
        self.memory.remove(entry)
        if self.disk is not None:
            self.disk.drop(entry.key, entry.variant)

    def read_now(self, key: bytes, selector: Selector) -> Entry | Later | None:
        """Look on the disk without waiting, as far as that is possible."""
        if self.disk is None:
            return None
        found = self.disk.read_now(key)
        if isinstance(found, Marker):
            newest: Entry | None = None
            for names in found.lists:
                one = self.disk.read_now(key, selector.variant(names))
                if isinstance(one, Later):
                    return one
                if isinstance(one, Entry):
                    newest = newer(one, newest)
            found = newest
        return self._raise(found) if isinstance(found, Entry) else found

    async def read(self, key: bytes, selector: Selector) -> Entry | None:
        """Look on the disk."""
        if self.disk is None:
            return None
        found = await self.disk.read(key)
        if isinstance(found, Marker):
            newest: Entry | None = None
            for names in found.lists:
                one = await self.disk.read(key, selector.variant(names))
                if isinstance(one, Entry):
                    newest = newer(one, newest)
            found = newest
        return None if found is None else self._raise(found)

    def holds_whole(self, entry: Entry) -> bool:
        """Whether memory has a complete answer in the place of `entry`."""
        held = self._held_like(entry)
        return held is not None and held.complete

    def _held_like(self, entry: Entry) -> Entry | None:
        held = self.memory.get(entry.key)
        if isinstance(held, Variants):
            return dict(held.lists).get(entry.vary, {}).get(entry.variant)
        return held if held is not None and held.vary == entry.vary else None

    def expected(self, key: bytes, selector: Selector) -> tuple[tuple[bytes, ...], bytes]:
        """Say which variant an answer for `key` is likely to be, by the newest Vary known.

        By the names, too, of what could not be kept: those who differ in them do not wait together.
        """
        held = self.get(key)
        names: tuple[bytes, ...] = ()
        if isinstance(held, Variants):
            names = held.lists[0][0]
        else:
            flights = self.flights.of(key)
            names = next((found for it in flights[::-1] if (found := it.vary())), ())
        marked = self.flights.names(key)
        if marked and marked != names:
            names = tuple(sorted({*names, *marked}))
        return names, selector.variant(names)

    def siblings(self, entry: Entry) -> list[Entry]:
        """Return the entries of one key, `entry` first: all of them may be validated at once."""
        held = self.memory.get(entry.key)
        others = held.entries() if isinstance(held, Variants) else []
        return [entry, *(other for other in others if other is not entry)]

    def _raise(self, entry: Entry) -> Entry:
        """Keep in memory what was found on the disk: its content, or where that is.

        While a thread read it, a newer one may have come.
        """
        held = self._held_like(entry)
        if held is not None and newer(entry, held) is held:
            return held
        self.memory.put(entry)
        return entry


def newer(one: Entry, other: Entry | None) -> Entry:
    """Return the one whose answer came last. RFC 9111 §4."""
    return one if other is None or one.response_at > other.response_at else other
