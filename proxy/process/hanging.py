"""How many requests hang in one process of an application, as that says itself (wsgi_watch.py).

application's process ── 3 ──→ pipe ──→ master
"""

import asyncio
import os
from contextlib import suppress

_READ_BYTES = 4096


class Hanging:
    """The master's end of the pipe; `descriptor` is for the process, which inherits it.

    Created within the event loop. A process that writes nonsense harms nobody but itself.
    """

    def __init__(self) -> None:
        self._reading, self.descriptor = os.pipe()
        os.set_blocking(self._reading, False)
        self._count = 0
        self._changed = asyncio.Event()
        asyncio.get_running_loop().add_reader(self._reading, self._read)

    def started(self) -> None:
        """Leave the other end to the process."""
        os.close(self.descriptor)
        self.descriptor = -1

    def close(self) -> None:
        """Listen no more."""
        if self._reading >= 0:
            asyncio.get_running_loop().remove_reader(self._reading)
            os.close(self._reading)
            self._reading = -1
        if self.descriptor >= 0:
            self.started()

    async def at_least(self, limit: int) -> int:
        """Return how many requests hang, as soon as there are so many."""
        while self._count < limit:
            self._changed.clear()
            await self._changed.wait()
        return self._count

    def _read(self) -> None:
        data = b""
        with suppress(OSError):
            data = os.read(self._reading, _READ_BYTES)
        if not data:
            asyncio.get_running_loop().remove_reader(self._reading)
            return
        last = data.split()[-1:]
        if last and last[0].isdigit() and len(last[0]) < 10:
            self._count = int(last[0])
            self._changed.set()
