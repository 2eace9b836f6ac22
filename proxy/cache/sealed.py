"""Copies of large content in memory that nobody can change, for the kernel to send from.

What the kernel sends from a file is whatever the file holds by then, so content on disk is read and
checked each time it goes out. Content that is asked for again is therefore copied, each block
checked, into memory that is sealed then (Linux: memfd_create, F_ADD_SEALS): not even this process
can write to it any more, and sendfile takes it from there without another look. It lies in large
pages where the kernel has them.

One copy is made at a time, in a thread. What was used a moment ago makes no room for another, so
that more popular content than there is room for does not chase itself around.
"""

import asyncio
import fcntl
import logging
import os
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final, Protocol

from proxy.cache.large_pages import collapse
from proxy.errors import StoredContentError

log = logging.getLogger("proxyd.cache")

# Content is copied when it was asked for so shortly before.
AGAIN_S: Final = 60.0
# A copy that was used so shortly before stays.
IN_USE_S: Final = 10.0
# One content takes no more than this share of the room.
LARGEST_SHARE: Final = 4
# Each has a descriptor.
MOST_COPIES: Final = 64
# Of how many it is remembered when they were asked for.
MOST_ASKED: Final = 1024

CAN_SEAL: Final = hasattr(os, "memfd_create") and hasattr(fcntl, "F_ADD_SEALS")


class Content(Protocol):
    """What can be copied; `file_id` tells it from all other content."""

    size_bytes: int

    @property
    def file_id(self) -> bytes:
        """Return the id of the file that holds it."""

    def copy_to(self, target: int) -> None:
        """Write all of it, checked, to a descriptor. Raises StoredContentError, OSError."""


class Sealed:
    """One copy; its memory is free when nobody refers to it any more."""

    __slots__ = ("descriptor", "size_bytes", "used_at")

    def __init__(self, descriptor: int, size_bytes: int) -> None:
        self.descriptor = descriptor
        self.size_bytes = size_bytes
        self.used_at = 0.0

    def __del__(self) -> None:
        os.close(self.descriptor)


class Copies:
    """The copies of one worker, up to `limit_bytes`; used on the event loop only."""

    def __init__(self, limit_bytes: int, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._limit_bytes = limit_bytes if CAN_SEAL else 0
        self._monotonic = monotonic
        self._copies: OrderedDict[bytes, Sealed] = OrderedDict()
        self._asked_at: dict[bytes, float] = {}
        self._making: asyncio.Future[Sealed | None] | None = None
        self.used_bytes = 0

    def find(self, content: Content, executor: Executor) -> Sealed | None:
        """Return the copy of `content`, which is used now; without one it may be made for later."""
        if not 0 < content.size_bytes * LARGEST_SHARE <= self._limit_bytes:
            return None
        now, key = self._monotonic(), content.file_id
        found = self._copies.get(key)
        if found is not None:
            found.used_at = now
            self._copies.move_to_end(key)
        elif (
            self._is_asked_again(key, now)
            and self._making is None
            and self._make_room(content.size_bytes, now)
        ):
            loop = asyncio.get_running_loop()
            self._making = loop.run_in_executor(executor, _made, content)
            self._making.add_done_callback(lambda made: self._keep(key, made))
        return found

    def _is_asked_again(self, key: bytes, now: float) -> bool:
        before = self._asked_at.pop(key, -AGAIN_S)
        if len(self._asked_at) >= MOST_ASKED:
            del self._asked_at[next(iter(self._asked_at))]
        self._asked_at[key] = now
        return now - before < AGAIN_S

    def _make_room(self, size_bytes: int, now: float) -> bool:
        """Let go of what was not used for the longest time; False when that is in use."""
        while self.used_bytes + size_bytes > self._limit_bytes or len(self._copies) >= MOST_COPIES:
            key, oldest = next(iter(self._copies.items()))
            if now - oldest.used_at < IN_USE_S:
                return False
            del self._copies[key]
            self.used_bytes -= oldest.size_bytes
        return True

    def _keep(self, key: bytes, made: "asyncio.Future[Sealed | None]") -> None:
        self._making = None
        copy = None if made.cancelled() else made.result()
        if copy is not None:
            copy.used_at = self._monotonic()
            self._copies[key] = copy
            self.used_bytes += copy.size_bytes

    def clear(self) -> None:
        """Let go of all copies."""
        self._copies.clear()
        self.used_bytes = 0


def _made(content: Content) -> Sealed | None:
    """Make a copy, in a thread; None when it cannot be made, which the next reader looks into."""
    if sys.platform != "linux":
        return None
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    seals = fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    try:
        copy = Sealed(os.memfd_create("proxyd-cache", flags), content.size_bytes)
        content.copy_to(copy.descriptor)
        collapse(copy.descriptor, content.size_bytes)
        fcntl.fcntl(copy.descriptor, fcntl.F_ADD_SEALS, seals)
    except (StoredContentError, OSError) as error:
        log.info("content of the disk cache is not copied to memory: %s", error)
        return None
    return copy
