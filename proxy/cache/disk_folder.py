"""The folder of the disk cache: names of files, and what is done to them in one step.

    root/ 3f/ 9c/ 3f9c…   one file for each entry, named by 128 bits of BLAKE2b of key and variant
    root/ tmp/ 1234-9f…   files on their way; one that grows slowly is locked (flock) by its writer

All but `Complaints` block, and run in threads or where a microsecond is known to do. They raise
OSError. There is no fsync: what a loss of power leaves behind does not match its checksums.
"""

import errno
import fcntl
import logging
import os
import secrets
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Final

from proxy.cache.journal import NAME_BYTES

log = logging.getLogger("proxyd.cache")

READ_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
_CREATE_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
_UPDATE_FLAGS: Final = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
# Linux and macOS take 1024 buffers in one writev.
_MOST_BUFFERS: Final = 1024

TEMPORARY: Final = "tmp"
# One line for one kind of trouble in so many seconds.
QUIET_S: Final = 10.0


def name_of(key: bytes, variant: bytes) -> bytes:
    """Return the name of the file of one entry; keys have no NUL."""
    return blake2b(key + b"\0" + variant, digest_size=NAME_BYTES).digest()


def path_of(root: str, name: bytes) -> str:
    """Return where the file of that name is."""
    text = name.hex()
    return f"{root}/{text[:2]}/{text[2:4]}/{text}"


def create(root: str, *, lock: bool = False) -> tuple[int, str]:
    """Create an empty file on its way; returns its descriptor and path."""
    path = f"{root}/{TEMPORARY}/{os.getpid()}-{secrets.token_hex(8)}"
    try:
        descriptor = os.open(path, _CREATE_FLAGS, 0o600)
    except FileNotFoundError:
        os.makedirs(f"{root}/{TEMPORARY}", 0o700, exist_ok=True)
        descriptor = os.open(path, _CREATE_FLAGS, 0o600)
    if lock:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor, path


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
    descriptor, temporary = create(root)
    try:
        try:
            write_all(descriptor, parts)
            size_bytes = os.lseek(descriptor, 0, os.SEEK_CUR)
        finally:
            os.close(descriptor)
        place(root, temporary, name)
    except OSError:
        unlink(temporary)
        raise
    return size_bytes


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


class Complaints:
    """Logs trouble with the disk, one kind of it every QUIET_S at most."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._quiet_until: dict[tuple[str, int | None], float] = {}

    def add(self, doing: str, error: OSError) -> None:
        """Log that `doing` something failed."""
        kind = (doing, error.errno)
        now = self._monotonic()
        if now >= self._quiet_until.get(kind, now):
            self._quiet_until[kind] = now + QUIET_S
            log.warning("the disk cache could not be %s: %s", doing, error)
