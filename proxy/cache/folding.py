"""Folds the journal into the catalogue, and starts a new one when it has grown.

How far a file was read stands in the catalogue and changes in one transaction with what was read,
so that a keeper that is killed goes on where it was. The file before the last is read until the
next rotation: a worker may write to it once more before it sees the new one.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from proxy.cache.index import Described, Index
from proxy.cache.journal import JOURNAL, OLD_JOURNAL, Kind, Record, decode

# What one step takes in, which SQLite does within 5 to 20 ms. A commit writes each page that was
# changed, and names without order change nearly one for each record: few more, the more there are.
_STEP_RECORDS = 1000
_STEP_BYTES = 1 << 20
# A journal of this size is followed by a new one: 100,000 records without heads.
ROTATE_BYTES = 4 << 20
# Every worker has looked at the journal's name again after so long.
ROTATE_EVERY_S = 5.0


class Folding:
    """Reads the journal of one folder, a step at a time."""

    def __init__(
        self,
        folder: Path,
        index: Index,
        exists: Callable[[bytes], bool],
        lost: Callable[[], None],
        describe: Callable[[Record], Described | None],
    ) -> None:
        """Fold into `index`; `exists` looks for a file by name, `lost` hears of lost records.

        `describe` says what is known of a file that was put; None when that is for it to tell.
        """
        self._journal = folder / JOURNAL
        self._old = folder / OLD_JOURNAL
        self._index = index
        self._exists = exists
        self._lost = lost
        self._describe = describe
        self._rotate_at = 0.0

    def step(self, now: float) -> bool:
        """Fold a little; True when there is more. `now` is monotonic; raises OSError."""
        if self._read(self._old):
            return True
        if self._read(self._journal):
            return True
        if now >= self._rotate_at and _size(self._journal) >= ROTATE_BYTES:
            self._rotate()
            self._rotate_at = now + ROTATE_EVERY_S
        return False

    def _read(self, path: Path) -> bool:
        """Fold what is new in one file; False when there was nothing."""
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return False
        try:
            status = os.fstat(descriptor)
            mark = _mark(status)
            position = self._index.mark(mark) or 0
            if position > status.st_size:  # another file with the number of one that is gone
                position = 0
            records, done = decode(os.pread(descriptor, _STEP_BYTES, position), _STEP_RECORDS)
        finally:
            os.close(descriptor)
        if not done:
            return False
        told = [
            (record, self._describe(record) if record.kind is Kind.PUT else None)
            for record in records
        ]
        self._index.fold(told, mark, position + done)
        self._enter_drops([record.name for record in records if record.kind is Kind.DROP])
        if any(record.kind is Kind.LOST for record in records):
            self._lost()
        return True

    def _enter_drops(self, names: Sequence[bytes]) -> None:
        """Forget what was dropped, unless another worker has put it again since."""
        gone = [name for name in names if not self._exists(name)]
        for start in range(0, len(gone), 500):
            rows = self._index.named(gone[start : start + 500])
            self._index.remove([row.id for row in rows])

    def _rotate(self) -> None:
        """Let workers begin a new file; the one before the last is done with."""
        if (status := _status(self._old)) is not None:
            self._index.set_mark(_mark(status), None)
        self._journal.rename(self._old)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None


def _size(path: Path) -> int:
    status = _status(path)
    return 0 if status is None else status.st_size


def _mark(status: os.stat_result) -> str:
    return f"journal:{status.st_dev}:{status.st_ino}"
