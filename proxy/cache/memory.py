"""The entries that one worker keeps in memory: least recently used go first, counted in bytes.

```
key ──► Entry                                       the resource has no Vary
   └──► Variants ──► names, newest first ──► variant ──► Entry       RFC 9111 §4.1
```

No I/O, no clock. A hit is one look-up in a dict: the order of use is told by `touch`, once in ten
seconds for an entry, so an order that coarse is kept at no cost to a hit.
"""

from collections.abc import Callable
from typing import Final

from cachetools import LRUCache

from proxy.cache.entry import Entry

# Lists of Vary names under one key, and variants under one list. Traffic Server keeps 5 alternates
# (proxy.config.cache.limits.http.max_alts), Varnish any number, which it then looks through.
MAX_LISTS: Final = 8
MAX_VARIANTS: Final = 256

# What one put may evict, about 0.5 ms; an entry that would need more room is not kept this time.
MAX_EVICTIONS: Final = 256

# Varnish's lru_interval is 2 s.
TOUCH_S: Final = 10.0


class Variants:
    """The entries of one key that has had a Vary: by list of names, newest first, then by variant.

    An answer without Vary among them stands under the list without names and the variant b"".
    """

    __slots__ = ("lists",)

    def __init__(self) -> None:
        self.lists: list[tuple[tuple[bytes, ...], dict[bytes, Entry]]] = []

    def add(self, entry: Entry) -> list[Entry]:
        """Put `entry` first; returns those that it replaces, or that are too many."""
        gone: list[Entry] = []
        entries: dict[bytes, Entry] = {}
        for at, (names, held) in enumerate(self.lists):
            if names == entry.vary:
                del self.lists[at]
                entries = held
                break
        replaced = entries.pop(entry.variant, None)
        if replaced is not None:
            gone.append(replaced)
        elif len(entries) == MAX_VARIANTS:
            gone.append(entries.pop(next(iter(entries))))
        entries[entry.variant] = entry
        self.lists.insert(0, (entry.vary, entries))
        if len(self.lists) > MAX_LISTS:
            gone.extend(self.lists.pop()[1].values())
        return gone

    def remove(self, entry: Entry) -> None:
        """Forget `entry`, if it is the one that is held."""
        for at, (names, entries) in enumerate(self.lists):
            if names == entry.vary and entries.get(entry.variant) is entry:
                del entries[entry.variant]
                if not entries:
                    del self.lists[at]
                return

    def entries(self) -> list[Entry]:
        """Return all of them."""
        return [entry for _names, held in self.lists for entry in held.values()]


class MemoryStore:
    """Entries up to `limit_bytes` together.

    `get` is the dict's own: key to Entry, Variants or None. `evicted` is called with each entry
    that has to go for another.
    """

    def __init__(
        self, limit_bytes: int, evicted: Callable[[Entry], None] = lambda _entry: None
    ) -> None:
        self._limit_bytes = limit_bytes
        self._evicted = evicted
        self._order: LRUCache[Entry, Entry] = LRUCache(
            limit_bytes, getsizeof=lambda entry: entry.cost_bytes
        )
        self._found: dict[bytes, Entry | Variants] = {}
        # As a method of ours it would cost every look-up a call more.
        self.get: Callable[[bytes], Entry | Variants | None] = self._found.get

    @property
    def cost_bytes(self) -> int:
        """Return what the entries take together."""
        return int(self._order.currsize)

    def __len__(self) -> int:
        return len(self._order)

    def entries(self) -> list[Entry]:
        """Return all entries, in no order that matters."""
        return list(self._order)

    def put(self, entry: Entry) -> bool:
        """Keep `entry` in place of what has its key and variant.

        Returns False when it is not kept: larger than all of the memory, or in need of the room of
        more than MAX_EVICTIONS others. What it would have replaced is gone all the same.
        """
        if not self._limit_bytes:
            return False
        held = self._found.get(entry.key)
        is_alone = not entry.vary and not isinstance(held, Variants)
        if not is_alone:
            for gone in self._among_variants(held, entry):
                self._order.pop(gone, None)
        elif isinstance(held, Entry):
            self.remove(held)
        if not self._make_room(entry.cost_bytes):
            self._forget(entry)
            return False
        self._order[entry] = entry
        if is_alone:
            self._found[entry.key] = entry
        return True

    def drop(self, key: bytes, variant: bytes | None = None) -> int:
        """Give up one variant of `key`, or all; returns how many entries went."""
        held = self._found.get(key)
        entries = held.entries() if isinstance(held, Variants) else [held] if held else []
        gone = [entry for entry in entries if variant is None or entry.variant == variant]
        for entry in gone:
            self.remove(entry)
        return len(gone)

    def remove(self, entry: Entry) -> None:
        """Give up `entry`, if it is the one that is held."""
        self._order.pop(entry, None)
        self._forget(entry)

    def touch(self, entry: Entry, now: float) -> None:
        """Learn that `entry` was used; called when `now` has reached its `touch_at`."""
        entry.touch_at = now + TOUCH_S
        if entry in self._order:
            _ = self._order[entry]  # a look-up is a use

    def _among_variants(self, held: Entry | Variants | None, entry: Entry) -> list[Entry]:
        """Put `entry` beside what its key has already; returns what it replaces."""
        if isinstance(held, Variants):
            return held.add(entry)
        variants = Variants()
        if held is not None:
            variants.add(held)
        gone = variants.add(entry)
        self._found[entry.key] = variants
        return gone

    def _make_room(self, wanted_bytes: int) -> bool:
        order = self._order
        if wanted_bytes > self._limit_bytes:
            return False
        for _ in range(MAX_EVICTIONS):
            if order.currsize + wanted_bytes <= self._limit_bytes:
                return True
            entry, _entry = order.popitem()
            self._forget(entry)
            self._evicted(entry)
        return bool(order.currsize + wanted_bytes <= self._limit_bytes)

    def _forget(self, entry: Entry) -> None:
        """Take `entry` out of what `get` finds."""
        held = self._found.get(entry.key)
        if held is entry:
            del self._found[entry.key]
        elif isinstance(held, Variants):
            held.remove(entry)
            if not held.lists:
                del self._found[entry.key]
