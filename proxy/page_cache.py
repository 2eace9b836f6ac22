"""What of a file the system has in memory: whether a read, or sendfile, would wait for the disk.

An event loop must not wait for it. Linux says so (RWF_NOWAIT); elsewhere NOWAIT is 0, and all of a
file is read in threads.
"""

import errno
import os
from typing import Final

NOWAIT: Final = getattr(os, "RWF_NOWAIT", 0) if hasattr(os, "preadv") else 0
NOT_IN_CACHE: Final = {errno.EAGAIN, errno.EWOULDBLOCK}

# What goes from a file to a socket in one turn of the event loop, some 250 µs; nginx's
# sendfile_max_chunk is the same.
SEND_BYTES: Final = 2 * 1024 * 1024
# Below, a copy costs less than what sendfile needs around it.
LEAST_SEND_BYTES: Final = 64 * 1024

_byte = [bytearray(1)]


def holds(descriptor: int, offset: int, count: int) -> bool:
    """Say whether a range is in memory, as far as its first and its last byte can tell.

    What the system has dropped between them is waited for. False where it cannot be known.
    """
    try:
        return bool(
            os.preadv(descriptor, _byte, offset, NOWAIT)
            and os.preadv(descriptor, _byte, offset + count - 1, NOWAIT)
        )
    except OSError:
        return False
