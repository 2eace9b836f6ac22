"""Which blocks of one file were found whole a moment ago, so that they need no second look.

What vouches for a block is that the file's status is the same as before it was checked: whoever
changes a byte of a file changes its time. What rots on the medium shows when it is read from there
again, so nothing is believed for longer than BELIEVED_S. Pure: time comes in as `now`, seconds of
any monotonic clock.
"""

import os
from typing import Final

BELIEVED_S: Final = 60.0
# A byte of memory for each block of 64 KiB; what is behind the first 4 GiB is checked every time.
MOST_BLOCKS: Final = 64 * 1024

_Signature = tuple[int, int, int, int, int]


class Checked:
    """The memory of one file's blocks; used by one thread."""

    __slots__ = ("_forget_at", "_marks", "_signature")

    def __init__(self) -> None:
        self._signature: _Signature | None = None
        self._marks = bytearray()
        self._forget_at = 0.0

    def until(self, status: os.stat_result, first: int, last: int, now: float) -> int:
        """Return the first block from `first` on that is not known to be whole, at most `last`."""
        if now >= self._forget_at or self._signature != _signature(status):
            return first
        known = self._marks.find(0, first, last)
        return max(first, min(last, len(self._marks))) if known < 0 else known

    def add(self, status: os.stat_result, first: int, last: int, now: float) -> None:
        """Remember that blocks before `last` are whole; `status` is from before they were read."""
        signature = _signature(status)
        if now >= self._forget_at or self._signature != signature:
            self._signature = signature
            self._marks.clear()
            self._forget_at = now + BELIEVED_S
        last = min(last, MOST_BLOCKS)
        if last > len(self._marks):
            self._marks.extend(bytes(last - len(self._marks)))
        for number in range(first, last):
            self._marks[number] = 1


def _signature(status: os.stat_result) -> _Signature:
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )
