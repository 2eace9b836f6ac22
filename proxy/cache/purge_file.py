"""The file of purges, mapped into the memory of every worker and of the tools.

     0          4096                          + 1 MiB                    + 512 KiB
     ├──────────┼──────────────────────────────┼─────────────────────────┤
     │ words    │ ring of 4096 slots           │ cells of invalid URLs   │
     └──────────┴──────────────────────────────┴─────────────────────────┘
     words: magic; sequence, slots written so far, floor; the complements of these three; retired

The sequence counts events and is all that a hit looks at. A purge is written into one slot, or
several for a long argument, each with its own checksum; then the words follow, the sequence last,
all under flock, so that whoever is killed meanwhile leaves what it had not finished unseen. When
the ring comes round, the floor rises: what was compared with purges below it last cannot be told
whether it has been purged.

Invalidation by unsafe requests (RFC 9111 §4.4) is as frequent as these are, and would turn the ring
fast. So it only notes its number in the cell that the URL's CRC leads to: another URL that shares
the cell is validated for nothing.

Whatever is not as it should be makes the file anew, with a random sequence: what was compared with
another file's purges lies outside it. Who makes a file in the place of one that was removed retires
that one: its sequence changes, so that all who still have it look for the new file at their next
hit, and no purge is noted where only some of them would see it.
"""

import fcntl
import logging
import mmap
import os
import secrets
import struct
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from proxy.errors import PurgeError

log = logging.getLogger("proxyd.cache")

SLOTS: Final = 4096
SLOT_BYTES: Final = 256
CELLS: Final = 65536
# The longest URL that is taken, as for a request's target; about 37 slots.
MOST_ARGUMENT_BYTES: Final = 8192

_HEADER_BYTES: Final = 4096
_SLOTS_END: Final = _HEADER_BYTES + SLOTS * SLOT_BYTES
FILE_BYTES: Final = _SLOTS_END + CELLS * 8
_MAGIC: Final = int.from_bytes(b"pxpurge1", "little")
_SEQUENCE, _WRITTEN, _FLOOR = 1, 2, 3
_COMPLEMENT: Final = 3
_RETIRED: Final = 7
_ALL_ONES: Final = 2**64 - 1

# checksum; part, parts, kind, mode; number, sequence; time; length
_SLOT = struct.Struct("<IBBBBQQdH")
_CRC = struct.Struct("<I")
_PART_BYTES: Final = SLOT_BYTES - _SLOT.size

# Whoever holds the lock does so for microseconds, unless it was stopped.
_LOCK_TRIES: Final = 100
_LOCK_WAIT_S: Final = 0.001


class Record(NamedTuple):
    """One purge; `at` is seconds since the epoch, `kind` and `mode` are those of `purges`."""

    sequence: int
    at: float
    kind: int
    mode: int
    argument: bytes


class _Slot(NamedTuple):
    part: int
    parts: int
    record: Record


class PurgeFile:
    """An open file of purges, made when it is missing or damaged.

    `words` is the header; `words[1]` the sequence. Raises OSError when it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(path, flags, 0o600)
        try:
            with self.locked():
                size_bytes = os.fstat(self._descriptor).st_size
                if size_bytes < FILE_BYTES:
                    # Written, not only sized: a page that a full disk has no room for kills.
                    os.pwrite(self._descriptor, bytes(FILE_BYTES), 0)
                self._map = mmap.mmap(self._descriptor, FILE_BYTES)
                view = memoryview(self._map)
                self.words = view[:_HEADER_BYTES].cast("Q")
                self._ring = view[_HEADER_BYTES:_SLOTS_END]
                self._cells = view[_SLOTS_END:].cast("Q")
                if not self._is_sound():
                    if size_bytes:
                        log.warning("%s is damaged: stored entries will be validated", path)
                    self._begin_anew()
                self._finish_appends()
        except BaseException:
            os.close(self._descriptor)
            raise

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the file's lock; raises PurgeError when somebody keeps it."""
        for _ in range(_LOCK_TRIES):
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(_LOCK_WAIT_S)
        else:
            raise PurgeError(f"{self._path} is locked by a process that does not go on")
        try:
            yield
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    @property
    def floor(self) -> int:
        """Return the sequence below which purges have been forgotten."""
        return self.words[_FLOOR]

    @property
    def written(self) -> int:
        """Return how many slots have been written."""
        return self.words[_WRITTEN]

    def is_in_place(self) -> bool:
        """Say whether the path still leads to this file, and all of it is there."""
        try:
            now = self._path.stat()
        except OSError:
            return False
        return os.path.samestat(now, os.fstat(self._descriptor)) and now.st_size >= FILE_BYTES

    @property
    def is_retired(self) -> bool:
        """Whether another file is in the place of this one, or was."""
        return bool(self.words[_RETIRED])

    def retire(self) -> None:
        """Have all who use this file look for the one in its place. Raises PurgeError."""
        with self.locked():
            # Of a file that was cut short, the words may be gone.
            if os.fstat(self._descriptor).st_size >= FILE_BYTES:
                self.words[_RETIRED] = 1
                self._set(_SEQUENCE, self.words[_SEQUENCE] + 1)

    def append(self, kind: int, mode: int, argument: bytes) -> int | None:
        """Write a purge; returns its sequence, None when the file is retired. Raises PurgeError."""
        if len(argument) > MOST_ARGUMENT_BYTES:
            raise PurgeError(f"what is to be purged is longer than {MOST_ARGUMENT_BYTES} bytes")
        parts = max(1, -(-len(argument) // _PART_BYTES))
        with self.locked():
            if self.is_retired:
                return None
            words = self.words
            sequence, written = words[_SEQUENCE] + 1, words[_WRITTEN]
            self._raise_floor(written, parts)
            record = Record(sequence, time.time(), kind, mode, argument)
            for part in range(parts):
                self._write(written + part, part, parts, record)
            self._set(_WRITTEN, written + parts)
            self._set(_SEQUENCE, sequence)
        return sequence

    def invalidate(self, url: bytes) -> int | None:
        """Note that what is stored for `url` is to be validated; returns as `append`."""
        with self.locked():
            if self.is_retired:
                return None
            sequence = self.words[_SEQUENCE] + 1
            self._cells[_cell(url)] = sequence
            self._set(_SEQUENCE, sequence)
        return sequence

    def invalidated(self, url: bytes) -> int:
        """Return the sequence of the newest invalidation that may be of `url`, 0 for none."""
        return self._cells[_cell(url)]

    def records(self, after: int) -> Iterator[Record]:
        """Yield the purges in slots from number `after` on that are still there; hold the lock.

        Raises PurgeError when one is damaged.
        """
        written = self.written
        first = max(after, written - SLOTS, 0)
        begun: Record | None = None
        for number in range(first, written):
            slot = self._read(number)
            if slot is None:
                raise PurgeError(f"a record in {self._path} is damaged")
            if slot.part == 0:
                begun = slot.record
            elif begun is None:
                continue  # its beginning has been overwritten
            else:
                begun = begun._replace(argument=begun.argument + slot.record.argument)
            if slot.part == slot.parts - 1:
                yield begun
                begun = None

    def begin_anew(self) -> None:
        """Forget all; hold the lock. Whatever was compared with this file must be validated."""
        log.warning("%s is damaged: stored entries will be validated", self._path)
        self._begin_anew()

    def close(self) -> None:
        """Unmap and close it."""
        for view in (self.words, self._ring, self._cells):
            view.release()
        self._map.close()
        os.close(self._descriptor)

    def _is_sound(self) -> bool:
        words = self.words
        return (
            words[0] == _MAGIC
            and not self.is_retired
            and 0 < words[_FLOOR] <= words[_SEQUENCE]
            and all(
                words[at] ^ words[at + _COMPLEMENT] == _ALL_ONES
                for at in (_SEQUENCE, _WRITTEN, _FLOOR)
            )
        )

    def _set(self, at: int, value: int) -> None:
        """Change a word, the complement first: who reads words sees the old one or the new."""
        self.words[at + _COMPLEMENT] = value ^ _ALL_ONES
        self.words[at] = value

    def _begin_anew(self) -> None:
        words = self.words
        words[0] = 0
        start = secrets.randbelow(2**30) + 1 << 32
        self._ring[:] = bytes(len(self._ring))
        self._cells.cast("B")[:] = bytes(CELLS * 8)
        self._set(_WRITTEN, 0)
        self._set(_FLOOR, start)
        self._set(_SEQUENCE, start)
        words[_RETIRED] = 0
        words[0] = _MAGIC

    def _finish_appends(self) -> None:
        """Count purges that are whole and were not counted: their writer was killed just then."""
        words = self.words
        while True:
            number = words[_WRITTEN]
            first = self._read(number)
            if first is None or first.part:
                return
            parts = [self._read(number + part) for part in range(first.parts)]
            if None in parts:
                return
            self._raise_floor(number, first.parts)
            self._set(_WRITTEN, number + first.parts)
            self._set(_SEQUENCE, max(words[_SEQUENCE], first.record.sequence))

    def _raise_floor(self, written: int, parts: int) -> None:
        """Forget the purges whose slots are to be overwritten."""
        for number in range(max(0, written - SLOTS), written - SLOTS + parts):
            at = number % SLOTS * SLOT_BYTES
            sequence = _SLOT.unpack_from(self._ring, at)[6]
            self._set(_FLOOR, max(self.words[_FLOOR], sequence))

    def _write(self, number: int, part: int, parts: int, record: Record) -> None:
        argument = record.argument[part * _PART_BYTES : (part + 1) * _PART_BYTES]
        data = _SLOT.pack(
            0,
            part,
            parts,
            record.kind,
            record.mode,
            number,
            record.sequence,
            record.at,
            len(argument),
        )
        data = (data + argument).ljust(SLOT_BYTES, b"\0")
        at = number % SLOTS * SLOT_BYTES
        self._ring[at : at + SLOT_BYTES] = _CRC.pack(zlib.crc32(data[4:])) + data[4:]

    def _read(self, number: int) -> _Slot | None:
        """Return what is in slot `number`, None when it is not whole, or older."""
        at = number % SLOTS * SLOT_BYTES
        data = bytes(self._ring[at : at + SLOT_BYTES])
        check, part, parts, kind, mode, found, sequence, when, length = _SLOT.unpack_from(data)
        if check != zlib.crc32(data[4:]) or found != number:
            return None
        argument = data[_SLOT.size : _SLOT.size + length]
        return _Slot(part, parts, Record(sequence, when, kind, mode, argument))


def _cell(url: bytes) -> int:
    return zlib.crc32(url) % CELLS
