r"""What a worker says to the master on its pipe: that it is ready, that it lives, where it hangs.

    worker ──▶ "ready\n"  once, when all is built
           ──▶ "\n"       each BEAT_S, from its event loop
           ──▶ "app …\n"  about the processes of applications (see places.py)
           ──▶ lines      the stack of each thread, when DUMP_SIGNAL asks for it (faulthandler)

A worker that says nothing for too long hangs: its loop stands still, or it is stopped.
"""

import asyncio
import os
import signal
from collections.abc import Callable

from proxy.observe.logs import relay
from proxy.process.lines import LineSplitter

READY = b"ready\n"
BEAT = b"\n"
BEAT_S = 0.5
# faulthandler keeps SIGABRT to itself; nothing else of a worker's uses this one.
DUMP_SIGNAL = signal.SIGUSR2
# Begins a line about the process of an application, in either direction.
APP = b"app "
_READ_BYTES = 64 * 1024


class Pulse:
    """The master's end of one worker's pipe; `its_end` is the worker's, to be closed here."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._end, self.its_end = os.pipe()
        os.set_blocking(self._end, False)
        self._splitter = LineSplitter()
        self._heard_at = self._loop.time()
        self.ready = asyncio.Event()
        self.on_app: Callable[[bytes], None] = ignore
        self._loop.add_reader(self._end, self._read)

    def _read(self) -> None:
        data = os.read(self._end, _READ_BYTES)
        if not data:
            self.close()
            return
        self._heard_at = self._loop.time()
        for line in self._splitter.feed(data):
            if line == READY.rstrip():
                self.ready.set()
            elif line.startswith(APP):
                self.on_app(line[len(APP) :])
            else:
                relay(self._name, line.decode("utf-8", "backslashreplace"))

    async def silent(self, limit_s: float) -> None:
        """Return when the worker has said nothing for `limit_s` seconds."""
        while (left_s := self._heard_at + limit_s - self._loop.time()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(left_s)

    def close(self) -> None:
        """Hear nothing more."""
        if self._end >= 0:
            self._loop.remove_reader(self._end)
            os.close(self._end)
            self._end = -1


def ignore(_: bytes) -> None:
    """Nobody listens yet."""
