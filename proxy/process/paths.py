"""Unix sockets in folders deeper than a socket's address can say."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from proxy.config.values import UNIX_PATH_BYTES


@contextmanager
def near(path: Path) -> Iterator[str]:
    """Give what to bind or connect to for the socket at `path`, from within its folder if need be.

    Changes the working directory meanwhile; there is no await inside, and no other thread cares.
    """
    if len(os.fsencode(path)) <= UNIX_PATH_BYTES:
        yield str(path)
        return
    before = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir(path.parent)
        yield path.name
    finally:
        os.fchdir(before)
        os.close(before)
