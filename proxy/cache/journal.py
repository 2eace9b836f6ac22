"""The journal: what workers did to the files of the disk cache, told to the keeper of its index.

One file in the cache's folder that every worker appends to, one write a second at the most, so that
no request waits for a catalogue. The worst that a lost record costs is a rescan in the background:
what can be served is decided by the files alone.

    worker 1 ──┐ append                          fold        ┌────────────────┐
    worker 2 ──┼────────▶ journal ── rename ──▶ journal.old ─▶│ index.sqlite   │
    worker n ──┘            └───────── fold ────────────────▶ └────────────────┘

A record has 40 bytes, little-endian, and stands for itself; a reader that meets a damaged or torn
one goes on at the next that is whole.

     0   2   3   4                20           28           32        36      40
     ├───┼───┼───┼────────────────┼────────────┼────────────┼─────────┼───────┤
     │pj │ v │ k │ name (16)      │ amount     │ keep_until │ at      │ crc32 │
     └───┴───┴───┴────────────────┴────────────┴────────────┴─────────┴───────┘
     v  version    k  kind    amount  bytes of a put, hits of a touch
     keep_until, at  seconds since the epoch
"""

import enum
import logging
import os
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

log = logging.getLogger("proxyd.cache")

JOURNAL = "journal"
OLD_JOURNAL = "journal.old"
RECORD_BYTES = 40
# What a name of an entry's file has: a BLAKE2b digest of 128 bits.
NAME_BYTES = 16

# A keeper that runs folds each second and rotates at 4 MiB; past this one there is none, and the
# disk is not filled for it. 1.6 million records.
FULL_BYTES = 64 << 20
# What waits for a write: 25,000 puts or drops, and as many names touched.
_MOST_RECORDS = 25_000
# An entry in use is reported this often: often enough to find the least recently used of thousands.
# Of more than _MOST_RECORDS in that time those that are used first, which are by and large those
# that are used most: each report costs the keeper a change of its catalogue.
TOUCH_EVERY_S = 30.0

_BODY = struct.Struct("<2sBB16sQII")
_CRC = struct.Struct("<I")
_MAGIC = b"pj"
_VERSION = 1
_START = _MAGIC + bytes((_VERSION,))
_LATEST = 2**32 - 1
_NO_NAME = bytes(NAME_BYTES)


class Kind(enum.IntEnum):
    """What happened to an entry's file."""

    PUT = 1
    TOUCH = 2
    DROP = 3
    # Records were lost before this one: only the files know what there is.
    LOST = 4


class Record(NamedTuple):
    """One event; `amount` is the size of a put in bytes, or the number of hits of a touch."""

    kind: Kind
    name: bytes
    amount: int
    keep_until: int
    at: int


def encode(record: Record) -> bytes:
    """Return the RECORD_BYTES of a record; times past 2106 become that year."""
    body = _BODY.pack(
        _MAGIC, _VERSION, record.kind, record.name, record.amount, record.keep_until, record.at
    )
    return body + _CRC.pack(zlib.crc32(body))


def decode(data: bytes) -> tuple[list[Record], int]:
    """Return the whole records, and how many bytes are done with.

    What is left is shorter than a record, and may be the beginning of one that is being written.
    """
    records: list[Record] = []
    position = 0
    while len(data) - position >= RECORD_BYTES:
        record = _decode_one(data, position)
        if record is not None:
            records.append(record)
            position += RECORD_BYTES
            continue
        found = data.find(_START, position + 1)
        position = max(position + 1, len(data) - RECORD_BYTES + 1) if found < 0 else found
    return records, position


def _decode_one(data: bytes, position: int) -> Record | None:
    if not data.startswith(_START, position):
        return None
    end = position + _BODY.size
    if zlib.crc32(data[position:end]) != _CRC.unpack_from(data, end)[0]:
        return None
    _, _, kind, name, amount, keep_until, at = _BODY.unpack_from(data, position)
    try:
        return Record(Kind(kind), name, amount, keep_until, at)
    except ValueError:  # of a later version that forgot to say so
        return None


class Journal:
    """A worker's end of the journal: it gathers events, and `flush` appends them.

    Calls never raise for what the disk does and never wait for more than one small write; what
    cannot be written is kept up to a bound, then counted as lost, which the keeper is told.
    """

    __slots__ = (
        "_complained",
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
        self._touched: dict[bytes, int] = {}
        self._touch_at = monotonic() + TOUCH_EVERY_S
        self._lost = False
        self._complained = False

    def put(self, name: bytes, size_bytes: int, keep_until: float) -> None:
        """Note a new file; `keep_until` is in seconds since the epoch, infinity allowed."""
        until = int(min(max(keep_until, 0), _LATEST))
        self._add(Record(Kind.PUT, name, size_bytes, until, self._now()))

    def touch(self, name: bytes) -> None:
        """Note a use of a file; cheap enough for every hit."""
        touched = self._touched
        if name in touched:
            touched[name] += 1
        elif len(touched) < _MOST_RECORDS:
            touched[name] = 1

    def drop(self, name: bytes) -> None:
        """Note that a file was removed."""
        self._add(Record(Kind.DROP, name, 0, 0, self._now()))

    def _now(self) -> int:
        return int(min(max(self._wall(), 0), _LATEST))

    def _add(self, record: Record) -> None:
        if len(self._pending) < _MOST_RECORDS * RECORD_BYTES:
            self._pending += encode(record)
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
        room = _MOST_RECORDS - len(self._pending) // RECORD_BYTES
        for name, hits in list(self._touched.items())[:room]:
            self._pending += encode(Record(Kind.TOUCH, name, hits, 0, at))
        self._touched.clear()

    def _append(self) -> None:
        try:
            if self._open() >= FULL_BYTES:
                self._pending.clear()
                self._lost = True
                return
            lost = encode(Record(Kind.LOST, _NO_NAME, 0, 0, self._now())) if self._lost else b""
            written = os.write(self._descriptor, lost + self._pending)
            # One that was cut short leaves a torn record, which is written again, whole.
            whole = written - written % RECORD_BYTES
            if whole:
                del self._pending[: whole - len(lost)]
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
