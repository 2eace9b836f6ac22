"""A bounded memory of what was used last.

A table that is emptied when it is full forgets what is used all the time, and a strict order of
use costs each look-up. Here are two generations: what is found in the older one moves to the
newer; when that is full it becomes the older, and what nobody asked for meanwhile is forgotten.
(2Q and CLOCK come near the order of use as cheaply.)
"""

from typing import Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """At most `most` values, and at least the half of that which was used last."""

    __slots__ = ("_generation", "_newer", "_older")

    def __init__(self, most: int) -> None:
        self._generation = most // 2
        self._newer: dict[Key, Value] = {}
        self._older: dict[Key, Value] = {}

    def get(self, key: Key) -> Value | None:
        """Return what is remembered for `key`, which was used now."""
        value = self._newer.get(key)
        if value is None:
            value = self._older.get(key)
            if value is not None:
                self.add(key, value)
        return value

    def add(self, key: Key, value: Value) -> None:
        """Remember `value`, which is not None."""
        if len(self._newer) >= self._generation:
            self._older = self._newer
            self._newer = {}
        self._newer[key] = value

    def __len__(self) -> int:
        return len(self._newer) + len(self._older)
