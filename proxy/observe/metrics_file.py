"""The numbers of each worker in a file, so that they outlive it and can be added up.

    magic      8 bytes   b"proxydM1"
    length     uint32    of the names; both numbers in the machine's byte order
    count      uint32    of the values
    names      JSON      [[metric, [[label, value], …]], …], padded with spaces to 8 bytes
    values     float64   one for each name

A worker locks its file (flock) for as long as it lives. Whoever starts takes the first one that
nobody holds, and goes on with the counters in it; so they survive `kill -9`, and there are never
more files than workers were alive at once. A gauge counts while its file is locked.

The values are written once a second with one `pwrite` of aligned numbers, each of which is whole
whenever the worker dies. Not with mmap, whose stores would kill a worker when the disk is full.
"""

import fcntl
import logging
import os
import struct
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from proxy.observe.metrics import METRICS, Series

MAGIC = b"proxydM1"
_HEAD = struct.Struct("=8sII")
_SUFFIX = ".metrics"
# More workers than 4 generations of 1024 there are not. A file of 1000 routes has some 6 MB.
_FILES = 4096
_FILE_BYTES = 64 << 20
# Of routes and servers that a reload took away, counters are kept up to this many.
_INHERITED = 10_000

_decode = msgspec.json.Decoder(list[Series]).decode
_encode = msgspec.json.Encoder().encode

log = logging.getLogger("proxyd.metrics")

Values = dict[Series, float]


class MetricsFile:
    """The file of one worker, with a value for each of `series`; raises OSError."""

    def __init__(self, folder: Path, series: Sequence[Series]) -> None:
        path, held = _take(folder)
        try:
            before = _counters(held)
            known = set(series)
            gone = [one for one in before if one not in known][:_INHERITED]
            self._rest = [before[one] for one in gone]
            self._base = [before.get(one, 0.0) for one in series]
            self._count = len(series)
            self._failed = False
            head = _head([*series, *gone])
            self._offset = len(head)
            self._descriptor = _put(path, head + self._encoded([0.0] * self._count))
        finally:
            os.close(held)

    def publish(self, values: Sequence[float]) -> None:
        """Write what was counted in this process, in the order of the series; never raises."""
        if len(values) != self._count:
            raise ValueError(f"{len(values)} values for {self._count} series")
        try:
            os.pwrite(self._descriptor, self._encoded(values), self._offset)
        except OSError as error:
            if not self._failed:
                log.warning("metrics cannot be written, those shown are old: %s", error)
            self._failed = True
        else:
            self._failed = False

    def _encoded(self, values: Sequence[float]) -> bytes:
        summed = array("d", [new + base for new, base in zip(values, self._base, strict=True)])
        summed.extend(self._rest)
        return summed.tobytes()

    def close(self) -> None:
        """Let the next worker go on with the counters."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _take(folder: Path) -> tuple[Path, int]:
    """Return the first file that no worker has, and its descriptor, locked."""
    for number in range(_FILES):
        path = folder / f"{number}{_SUFFIX}"
        while (held := _lock(path)) >= 0:
            if _is_at(path, held):
                return path, held
            os.close(held)  # somebody took it between our open and our lock
    raise OSError(f"all {_FILES} files of metrics are in use")


def _lock(path: Path) -> int:
    """Return the descriptor of the file, locked; -1 when another process has it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return -1
    return descriptor


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _put(path: Path, content: bytes) -> int:
    """Put a file with this content at `path`, locked and whole before anybody sees it."""
    new = path.with_suffix(".new")
    new.unlink(missing_ok=True)
    descriptor = _lock(new)
    try:
        os.pwrite(descriptor, content, 0)
        new.replace(path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _counters(descriptor: int) -> Values:
    return {
        series: value
        for series, value in _values(descriptor).items()
        if METRICS[series.name].kind in {"counter", "histogram"}
    }


def _head(series: Sequence[Series]) -> bytes:
    names = _encode(series)
    names += b" " * (-(len(names) + _HEAD.size) % 8)
    return _HEAD.pack(MAGIC, len(names), len(series)) + names


def _values(descriptor: int) -> Values:
    """Return what a file says; nothing when it is damaged, or of another version."""
    content = os.pread(descriptor, _FILE_BYTES, 0)
    try:
        magic, length, number = _HEAD.unpack_from(content)
        names = _decode(content[_HEAD.size : _HEAD.size + length])
        begin = _HEAD.size + length
        values = memoryview(content)[begin : begin + number * 8].cast("d")
        if magic != MAGIC or len(names) != len(values):
            return {}
    except (struct.error, msgspec.DecodeError, TypeError):
        return {}
    return {
        series: value for series, value in zip(names, values, strict=True) if series.name in METRICS
    }


def read(folder: Path) -> Values:
    """Return the numbers of all workers together; raises OSError when the folder cannot be read."""
    together: Values = {}
    for values in _each(folder):
        for series, value in values.items():
            before = together.get(series, 0.0)
            largest = METRICS[series.name].kind == "largest"
            together[series] = max(before, value) if largest else before + value
    return together


def _each(folder: Path) -> Iterator[Mapping[Series, float]]:
    for path in sorted(folder.glob(f"*{_SUFFIX}")):
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue
        try:
            yield _values(descriptor) if _is_held(descriptor) else _counters(descriptor)
        finally:
            os.close(descriptor)


def _is_held(descriptor: int) -> bool:
    """Whether a worker lives that writes to the file."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def clean(folder: Path) -> None:
    """Remove the numbers of another run."""
    for path in [*folder.glob(f"*{_SUFFIX}"), *folder.glob("*.new")]:
        with suppress(OSError):
            path.unlink()
