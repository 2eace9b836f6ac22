"""The duty of process 1, in a container: to take leave of processes that nobody else waits for.

An application's grandchild that outlives its parent becomes a child of process 1, and stays a
zombie until that has asked for its exit code.
"""

import asyncio
import os
import sys
from collections.abc import Callable, Collection
from contextlib import suppress

_CHECK_S = 1.0


class Orphans:
    """What has ended and is not ours; asyncio waits for our own processes."""

    def __init__(self) -> None:
        self._suspects: set[int] = set()

    def reap(self, ours: Collection[int]) -> None:
        """Release every orphan that has ended; call it every second. Linux.

        Ours lead sessions of their own. One that does and is not known has perhaps just been
        started: it is left alone until the next call.
        """
        if sys.platform != "linux":
            return
        with suppress(ChildProcessError):
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                pid = ended.si_pid
                if os.getsid(pid) == pid:
                    if pid in ours:
                        return  # asyncio will; the others come up when it has
                    if pid not in self._suspects:
                        self._suspects.add(pid)
                        return
                self._suspects.discard(pid)
                os.waitpid(pid, os.WNOHANG)


async def reap_orphans(ours: Callable[[], Collection[int]]) -> None:
    """Release every second what has ended; `ours` says which processes asyncio waits for."""
    orphans = Orphans()
    while True:
        orphans.reap(ours())
        await asyncio.sleep(_CHECK_S)
