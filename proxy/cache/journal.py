"""The journal: what workers did to the files of the disk cache, told to the keeper of its index.

One file in the cache's folder that every worker appends to, one write a second at the most, so that
no request waits for a catalogue. The worst that a lost record costs is a rescan in the background:
what can be served is decided by the files alone.

    worker 1 ──┐ append                          fold        ┌────────────────┐
    worker 2 ──┼────────▶ journal ── rename ──▶ journal.old ─▶│ index.sqlite   │
    worker n ──┘            └───────── fold ────────────────▶ └────────────────┘

A record has 46 bytes, little-endian, and stands for itself; a reader that meets a damaged or torn
one goes on at the next that is whole. Behind that of a put stands the entry's head (codec.py), so
that the keeper need not open its file for it; where there is none, the file has it.

     0   2   3   4           20       28           32   36       38       42      46
     ├───┼───┼───┼───────────┼────────┼────────────┼────┼────────┼────────┼───────┼╌╌╌╌╌╌┐
     │pj │ v │ k │ name (16) │ amount │ keep_until │ at │ length │ crc32  │ crc32 │ head ┊
     └───┴───┴───┴───────────┴────────┴────────────┴────┴────────┴─of head┴───────┴╌╌╌╌╌╌┘
     v  version    k  kind    amount  bytes of a put, hits of a touch
     keep_until, at  seconds since the epoch    length  of the head, in bytes
"""

import enum
import logging
import os
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from zlib_ng.zlib_ng import crc32

log: Final = logging.getLogger("proxyd.cache")

JOURNAL: Final = "journal"
OLD_JOURNAL: Final = "journal.old"
RECORD_BYTES: Final = 46
# What a name of an entry's file has: a BLAKE2b digest of 128 bits.
NAME_BYTES: Final = 16

# A keeper that runs folds each second and rotates at 4 MiB; past this one there is none, and the
# disk is not filled for it. 1.6 million records.
FULL_BYTES: Final = 64 << 20
# What waits for a write: 25,000 puts or drops, and as many names touched; and so much of heads.
_MOST_RECORDS: Final = 25_000
_MOST_HEAD_BYTES: Final = 8 << 20
# A longer head stays in its file.
_LONGEST_HEAD: Final = 2048
# An entry in use is reported this often: often enough to find the least recently used of thousands.
# Of more than _MOST_RECORDS in that time those that are used first, which are by and large those
# that are used most: each report costs the keeper a change of its catalogue.
TOUCH_EVERY_S: Final = 30.0

_BODY: Final = struct.Struct("<2sBB16sQIIHI")
_CRC: Final = struct.Struct("<I")
_MAGIC: Final = b"pj"
_VERSION: Final = 2
_START: Final = _MAGIC + bytes((_VERSION,))
LATEST: Final = 2**32 - 1
_NO_NAME: Final = bytes(NAME_BYTES)


class Kind(enum.IntEnum):
    """What happened to an entry's file."""

    PUT = 1
    TOUCH = 2
    DROP = 3
    # Records were lost before this one: only the files know what there is.
    LOST = 4


# As plain numbers: an enum's member is looked up each time.
_PUT: Final[int] = Kind.PUT.value
_DROP: Final[int] = Kind.DROP.value
_KINDS: Final = {kind.value: kind for kind in Kind}


class Record(NamedTuple):
    """One event; `amount` is the size of a put in bytes, or the number of hits of a touch.

    `head` is that of the entry that was put, empty when it is to be read from the file.
    """

    kind: Kind
    name: bytes
    amount: int
    keep_until: int
    at: int
    head: bytes = b""


def encode(
    kind: int, name: bytes, amount: int, keep_until: int, at: int, head: bytes = b""
) -> bytes:
    """Return the bytes of a Record; the head may have _LONGEST_HEAD."""
    body = _BODY.pack(_MAGIC, _VERSION, kind, name, amount, keep_until, at, len(head), crc32(head))
    return body + _CRC.pack(crc32(body)) + head


def seconds(at: float) -> int:
    """Return whole seconds since the epoch; times past 2106, and infinity, become that year."""
    if at >= LATEST:
        return LATEST
    return int(at) if at > 0 else 0


def decode(data: bytes, most: int = 1 << 31) -> tuple[list[Record], int]:
    """Return the whole records, so many at the most, and how many bytes are done with.

    What is left is shorter than a record, and may be the beginning of one that is being written.
    """
    records: list[Record] = []
    position = 0
    while len(data) - position >= RECORD_BYTES and len(records) < most:
        if _is_record(data, position):
            _, _, kind, name, amount, keep_until, at, length, check = _BODY.unpack_from(
                data, position
            )
            end = position + RECORD_BYTES + length
            if end > len(data):
                break
            head = data[position + RECORD_BYTES : end]
            if crc32(head) != check:  # damaged, or cut short, and what follows is another record
                head, end = b"", position + RECORD_BYTES
            known = _KINDS.get(kind)  # one of a later version that forgot to say so is passed over
            if known is not None:
                records.append(Record(known, name, amount, keep_until, at, head))
            position = end
            continue
        found = data.find(_START, position + 1)
        position = max(position + 1, len(data) - RECORD_BYTES + 1) if found < 0 else found
    return records, position


def _is_record(data: bytes, position: int) -> bool:
    """Whether a whole record stands there, its head apart."""
    if not data.startswith(_START, position):
        return False
    end = position + _BODY.size
    return bool(crc32(data[position:end]) == _CRC.unpack_from(data, end)[0])


def _whole(data: bytes, most_bytes: int) -> tuple[int, int]:
    """Return how many records of `data` are whole in its first bytes, and how long these are."""
    count = position = 0
    while position + RECORD_BYTES <= most_bytes:
        end = position + RECORD_BYTES + _BODY.unpack_from(data, position)[7]
        if end > most_bytes:
            break
        count, position = count + 1, end
    return count, position


class Journal:
    """A worker's end of the journal: it gathers events, and `flush` appends them.

    Calls never raise for what the disk does and never wait for more than one small write; what
    cannot be written is kept up to a bound, then counted as lost, which the keeper is told.
    """

    __slots__ = (
        "_complained",
        "_count",
        "_descriptor",
        "_lost",
        "_monotonic",
        "_path",
        "_pending",
        "_touch_at",
        "_touched",
        "_wall",
    )

    def __init__(
        self,
        folder: Path,
        *,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Write to the journal of the cache in `folder`; nothing is opened before it is needed."""
        self._path = folder / JOURNAL
        self._wall = wall
        self._monotonic = monotonic
        self._descriptor = -1
        self._pending = bytearray()
        self._count = 0  # of the records there
        self._touched: dict[bytes, int] = {}
        self._touch_at = monotonic() + TOUCH_EVERY_S
        self._lost = False
        self._complained = False

    def put(self, name: bytes, size_bytes: int, keep_until: float, head: bytes = b"") -> None:
        """Note a new file; `keep_until` is in seconds since the epoch, infinity allowed.

        `head` is that of its entry, empty when it is to be read from the file.
        """
        if len(head) > _LONGEST_HEAD or len(self._pending) > _MOST_HEAD_BYTES:
            head = b""
        self._add(_PUT, name, size_bytes, seconds(keep_until), head)

    def touch(self, name: bytes) -> None:
        """Note a use of a file; cheap enough for every hit."""
        touched = self._touched
        if name in touched:
            touched[name] += 1
        elif len(touched) < _MOST_RECORDS:
            touched[name] = 1

    def drop(self, name: bytes) -> None:
        """Note that a file was removed."""
        self._add(_DROP, name, 0, 0)

    def _now(self) -> int:
        return seconds(self._wall())

    def _add(self, kind: int, name: bytes, amount: int, keep_until: int, head: bytes = b"") -> None:
        if self._count < _MOST_RECORDS:
            self._count += 1
            self._pending += encode(kind, name, amount, keep_until, self._now(), head)
        else:
            self._lost = True

    def flush(self) -> None:
        """Append what happened; called once a second by the worker's timer, and at its end."""
        now = self._monotonic()
        if now >= self._touch_at:
            self._report_touches()
            self._touch_at = now + TOUCH_EVERY_S
        if self._pending or self._lost:
            self._append()

    def _report_touches(self) -> None:
        """Turn the counted uses into records; what has no room is let go: no harm comes of it."""
        at = self._now()
        room = _MOST_RECORDS - self._count
        for name, hits in list(self._touched.items())[:room]:
            self._count += 1
            self._pending += encode(Kind.TOUCH, name, hits, 0, at)
        self._touched.clear()

    def _append(self) -> None:
        try:
            if self._open() >= FULL_BYTES:
                self._pending.clear()
                self._count = 0
                self._lost = True
                return
            lost = encode(Kind.LOST, _NO_NAME, 0, 0, self._now()) if self._lost else b""
            data = bytes(lost + self._pending)
            # What was cut short leaves a torn record, which is written again, whole.
            count, whole_bytes = _whole(data, os.write(self._descriptor, data))
            if count:
                del self._pending[: whole_bytes - len(lost)]
                self._count -= count - bool(lost)
                self._lost = False
        except OSError as error:
            if not self._complained:
                log.warning("the cache's journal %s cannot be written: %s", self._path, error)
            self._complained = True
        else:
            self._complained = False

    def _open(self) -> int:
        """Have the file of that name open, whoever has renamed the one before; return its size."""
        if self._descriptor >= 0:
            try:
                status = self._path.stat()
                if os.path.samestat(status, os.fstat(self._descriptor)):
                    return status.st_size
            except FileNotFoundError:
                pass  # the keeper has just taken it
            self._close()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._descriptor = os.open(self._path, flags, 0o600)
        return os.fstat(self._descriptor).st_size

    def _close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def close(self) -> None:
        """Write what is left, uses as well, and close."""
        self._touch_at = self._monotonic()
        self.flush()
        self._close()
