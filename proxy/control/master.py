"""The way to the master: commands side by side on one socket (see process/control_socket.py)."""

import asyncio
import json
import socket
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any

from proxy.errors import CommandError

# The status of a thousand processes.
_LINE_BYTES = 1 << 20

Told = Callable[[str], None]


class Master:
    """Gives the master commands, and waits for their outcomes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._numbers = count()
        self._waiting: dict[int, tuple[asyncio.Future[dict[str, Any]], Told]] = {}
        self._gone = False
        self._hearing = asyncio.create_task(self._hear())

    @classmethod
    async def connected(cls, sock: socket.socket) -> "Master":
        """Speak over a connected socket."""
        sock.setblocking(False)
        return cls(*await asyncio.open_unix_connection(sock=sock, limit=_LINE_BYTES))

    async def command(self, name: str, tell: Told, timeout_s: float) -> tuple[str, dict[str, Any]]:
        """Let the master do something; return its words and data. Raises CommandError."""
        number = next(self._numbers)
        if self._gone:
            raise CommandError("proxyd ends")
        outcome = asyncio.get_running_loop().create_future()
        self._waiting[number] = (outcome, tell)
        self._writer.write(json.dumps({"id": number, "command": name}).encode() + b"\n")
        try:
            async with asyncio.timeout(timeout_s):
                said = await outcome
        except TimeoutError:
            raise CommandError(f"the master has not answered within {timeout_s:g} s") from None
        finally:
            del self._waiting[number]
        if not said["done"]:
            raise CommandError(said["text"])
        return said["text"], said.get("data", {})

    async def _hear(self) -> None:
        with suppress(OSError, ValueError):
            async for line in self._reader:
                self._take(json.loads(line))
        self._gone = True
        for outcome, _tell in self._waiting.values():
            if not outcome.done():
                outcome.set_result({"done": False, "text": "proxyd ends"})

    def _take(self, said: dict[str, Any]) -> None:
        waiting = self._waiting.get(said.get("id", -1))
        if waiting is None:
            return  # nobody waits for it any more
        outcome, tell = waiting
        if "progress" in said:
            tell(said["progress"])
        elif not outcome.done():
            outcome.set_result(said)

    def close(self) -> None:
        """Hear nothing more."""
        self._hearing.cancel()
        self._writer.close()
