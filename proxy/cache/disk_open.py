"""Opens a file of the disk cache that may not be there.

By itself because it is not compiled: a compiled handler makes a frame and a code object for the
traceback of each error that it catches, and most look-ups of what memory has not find nothing.
"""

import os
from typing import Final

READ_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW


def open_to_read(path: str) -> int:
    """Return a descriptor, -1 when there is no such file. Raises OSError."""
    try:
        return os.open(path, READ_FLAGS)
    except FileNotFoundError:
        return -1
