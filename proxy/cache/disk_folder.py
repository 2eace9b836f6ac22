"""The folder of the disk cache: names of files, and what is done to them in one step.

    root/ 3f/ 3f9c…       one file for each entry, named by 128 bits of BLAKE2b of key and variant
    root/ 3f/ new-9f…     one that is written at once, on its way
    root/ tmp/ new-9f…    one that grows slowly, locked (flock) by its writer

What is written at once begins where it will stay: a file system keeps the inodes of one folder
together, and ext4 searches long for a free one where many were freed lately (nginx has
use_temp_path for this).

All but `Complaints` block, and run in threads or where a microsecond is known to do. They raise
OSError. There is no fsync: what a loss of power leaves behind does not match its checksums.
"""

import errno
import fcntl
import logging
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from hashlib import blake2b
from itertools import count
from typing import Final

from proxy.cache.disk_file import ID_BYTES
from proxy.cache.disk_open import READ_FLAGS
from proxy.cache.journal import NAME_BYTES

log: Final = logging.getLogger("proxyd.cache")

_CREATE_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_UPDATE_FLAGS: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
# Linux and macOS take 1024 buffers in one writev.
_MOST_BUFFERS: Final = 1024

TEMPORARY: Final = "tmp"
UNFINISHED: Final = "new-"
# What no other process begins a name with, and a number that no other file of this one has.
_OURS: Final = f"{UNFINISHED}{os.urandom(8).hex()}-"
_numbers: Final = count()
# The same for the ids in files: 64 random bits, and from there on one after the other.
_ids: Final = count(int.from_bytes(os.urandom(ID_BYTES), "little"))
# A copy of an empty one is made in less time than another one.
_unnamed: Final = blake2b(digest_size=NAME_BYTES).copy
_ALL_IDS: Final = (1 << (8 * ID_BYTES)) - 1
# One line for one kind of trouble in so many seconds.
QUIET_S: Final = 10.0


def name_of(key: bytes, variant: bytes) -> bytes:
    """Return the name of the file of one entry; keys have no NUL."""
    named = _unnamed()
    named.update(key + b"\0" + variant)
    return named.digest()


def path_of(root: str, name: bytes) -> str:
    """Return where the file of that name is."""
    text = name.hex()
    return f"{root}/{text[:2]}/{text}"


def new_id() -> bytes:
    """Return an id that no other file has."""
    return (next(_ids) & _ALL_IDS).to_bytes(ID_BYTES, "little")


def create_growing(root: str) -> tuple[int, str]:
    """Create and lock an empty file on its way; returns its descriptor and path."""
    descriptor, path = _create(f"{root}/{TEMPORARY}")
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor, path


def _create(folder: str) -> tuple[int, str]:
    path = f"{folder}/{_OURS}{next(_numbers)}"
    try:
        return os.open(path, _CREATE_FLAGS, 0o600), path
    except FileNotFoundError:
        os.makedirs(folder, 0o700, exist_ok=True)
        return os.open(path, _CREATE_FLAGS, 0o600), path


def place(root: str, temporary: str, name: bytes) -> None:
    """Give a whole file its name, in place of what has it."""
    path = path_of(root, name)
    try:
        os.rename(temporary, path)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        os.rename(temporary, path)


def store_whole(root: str, name: bytes, parts: Sequence[bytes | memoryview]) -> int:
    """Store a file made of `parts`; returns its size in bytes."""
    path = path_of(root, name)
    descriptor, temporary = _create(path.rpartition("/")[0])
    try:
        try:
            write_all(descriptor, parts)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
    except OSError:
        unlink(temporary)
        raise
    return sum(map(len, parts))


def write_all(descriptor: int, parts: Sequence[bytes | memoryview]) -> None:
    """Write `parts` where the descriptor stands."""
    for first in range(0, len(parts), _MOST_BUFFERS):
        some = parts[first : first + _MOST_BUFFERS]
        wanted = sum(map(len, some))
        written = os.writev(descriptor, some)
        while written < wanted:  # a disk that is nearly full, or a signal
            count = os.write(descriptor, memoryview(b"".join(some))[written:])
            if not count:
                raise OSError(errno.EIO, "nothing was written")
            written += count


def open_for_update(root: str, name: bytes) -> int:
    """Open a file whose head is to be changed in place."""
    return os.open(path_of(root, name), _UPDATE_FLAGS)


def unlink(path: str) -> bool:
    """Remove a file; False when it was not there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def remove_leftover(path: str, before: float) -> None:
    """Remove a file that was last written before then (wall clock) and that no writer holds."""
    with suppress(OSError):
        if os.stat(path, follow_symlinks=False).st_mtime < before and not _is_held(path):
            os.unlink(path)
            log.info("a file that was never finished is removed: %s", path)


def _is_held(path: str) -> bool:
    """Whether the writer of a file holds its lock; raises OSError."""
    descriptor = os.open(path, READ_FLAGS)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


class Complaints:
    """Logs trouble with the disk, one kind of it every QUIET_S at most."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._quiet_until: dict[tuple[str, object], float] = {}

    def add(self, doing: str, error: Exception) -> None:
        """Log that `doing` something failed; what was not foreseen comes with its traceback."""
        kind = (doing, error.errno if isinstance(error, OSError) else type(error))
        now = self._monotonic()
        if now < self._quiet_until.get(kind, now):
            return
        self._quiet_until[kind] = now + QUIET_S
        if isinstance(error, OSError):
            log.warning("the disk cache could not be %s: %s", doing, error)
        else:
            log.error(
                "the disk cache could not be %s: an error that proxyd did not foresee",
                doing,
                exc_info=error,
            )
