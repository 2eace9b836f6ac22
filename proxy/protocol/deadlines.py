"""One coarse timer for all deadlines of a worker.

Moving a deadline later is one attribute store: the item stays in its bucket until that comes up
and is then put into the right one. So the many deadlines that never come (a keep-alive connection
renews its own with every request) cost next to nothing.
"""

from typing import Final, Protocol

NEVER: Final = float("inf")


class Item(Protocol):
    """What has a deadline. Both times are seconds of the loop's clock, NEVER for none.

    `deadline_at` is the item's; `bucket` belongs to Deadlines: the second in which it looks again.
    """

    deadline_at: float
    bucket: float

    def on_deadline(self, now: float) -> None:
        """The deadline has passed; may set another one."""


class Deadlines:
    """Buckets of one second each."""

    __slots__ = ("_buckets", "_swept")

    def __init__(self, now: float) -> None:
        self._buckets: dict[float, set[Item]] = {}
        self._swept = int(now)

    def set(self, item: Item, at: float) -> None:
        """Let `item.on_deadline` be called at `at`, within the coarse timer's step."""
        item.deadline_at = at
        if at < item.bucket:
            self._put(item, at)

    def forget(self, item: Item) -> None:
        """Hold no reference to `item` any more."""
        item.deadline_at = NEVER
        bucket = self._buckets.get(item.bucket)
        if bucket is not None:
            bucket.discard(item)
        item.bucket = NEVER

    def sweep(self, now: float) -> None:
        """Call the items whose time has come; called several times a second."""
        second = int(now)
        while self._swept < second:
            due = self._buckets.pop(self._swept, None)
            self._swept += 1
            if due is None:
                continue
            for item in due:
                item.bucket = NEVER
                if item.deadline_at <= now:
                    item.deadline_at = NEVER
                    item.on_deadline(now)
                elif item.deadline_at != NEVER:
                    self._put(item, item.deadline_at)

    def _put(self, item: Item, at: float) -> None:
        if item.bucket != NEVER:
            self._buckets[item.bucket].discard(item)
        item.bucket = bucket = float(max(int(at), self._swept))
        self._buckets.setdefault(bucket, set()).add(item)
