"""The memory that all catalogs of a worker share, and what has to go when it is full."""

from typing import Protocol

from cachetools import LRUCache

from proxy.files.asset import Asset


class Holder(Protocol):
    """Who is told that an asset had to go."""

    def evicted(self, asset: Asset) -> None:
        """Forget `asset`; it is not in the memory any more."""


class FileMemory:
    """Assets up to `limit_bytes` together; those used least recently go first.

    Uses are told by `keep`, not by every hit: a catalog calls it when it has compared an asset with
    the disk, so an order of seconds is kept at no cost to a hit.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._held = _Held(limit_bytes)

    @property
    def used_bytes(self) -> int:
        """Return what the assets take together."""
        return int(self._held.currsize)

    def keep(self, holder: Holder, asset: Asset) -> bool:
        """Hold `asset` as the one used last; False when it is larger than all of the memory."""
        try:
            self._held[holder, asset.key] = asset
        except ValueError:
            return False
        return True

    def drop(self, holder: Holder, key: bytes) -> None:
        """Give up what `holder` keeps under `key`, if anything."""
        self._held.pop((holder, key), None)


class _Held(LRUCache[tuple[Holder, bytes], Asset]):
    """The table itself, which tells holders what it evicts."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(limit_bytes, getsizeof=lambda asset: asset.size_bytes)

    def popitem(self) -> tuple[tuple[Holder, bytes], Asset]:
        """Evict the asset that was used least recently."""
        (holder, key), asset = super().popitem()
        holder.evicted(asset)
        return (holder, key), asset
