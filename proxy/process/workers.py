"""A worker as the master sees it: what it is given, and how it says that it is ready."""

import asyncio
import json
import os
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from socket import socket

from proxy.process.privileges import Identity

READY = b"ready\n"
# It reads proxy.toml and looks into the folders of static files; nothing that takes long.
_START_TIMEOUT_S = 60.0


class WorkerProgram:
    """One worker (see children.py).

    The process gets one line of JSON on standard input: `config`, the path of proxy.toml; `worker`,
    its number from 0; `listeners`, descriptors with the index of their [[listen]]; `apps`, the
    sockets of each application; `ready_fd`, where it writes READY once it accepts.
    """

    def __init__(
        self,
        number: int,
        command: Sequence[str],
        *,
        config: Path,
        listeners: Sequence[tuple[int, socket]],
        apps: Mapping[str, Sequence[Path]],
        identity: Identity | None,
    ) -> None:
        self.name = f"worker {number + 1}"
        self.start_timeout_s = _START_TIMEOUT_S
        self._command = command
        self._identity = identity
        self._descriptors = [sock.fileno() for _, sock in listeners]
        self._ready_end = -1
        self._document: dict[str, object] = {
            "config": str(config),
            "worker": number,
            "listeners": [{"fd": sock.fileno(), "index": index} for index, sock in listeners],
            "apps": {name: [str(path) for path in paths] for name, paths in apps.items()},
        }

    async def spawn(self) -> Process:
        """Start the worker as the runtime user, with its sockets and a pipe to say READY on."""
        self._forget_pipe()
        self._ready_end, its_end = os.pipe()
        os.set_blocking(self._ready_end, False)
        try:
            return await asyncio.create_subprocess_exec(
                *self._command,
                env=os.environ | (self._identity.environment() if self._identity else {}),
                stdin=PIPE,
                pass_fds=[*self._descriptors, its_end],
                start_new_session=True,
                **(self._identity.process_options() if self._identity else {}),
            )
        finally:
            os.close(its_end)
            self._document["ready_fd"] = its_end

    async def ready(self, process: Process) -> None:
        """Hand over what the worker needs, and return when it has said READY."""
        if process.stdin is not None:
            with suppress(ConnectionError):  # it died already, which its end will tell
                process.stdin.write(json.dumps(self._document).encode() + b"\n")
                await process.stdin.drain()
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._ready_end, readable.set)
        try:
            said = b""
            while said != READY:
                await readable.wait()
                readable.clear()
                data = os.read(self._ready_end, len(READY))
                if not data:
                    await process.wait()
                said += data
        finally:
            loop.remove_reader(self._ready_end)
            self._forget_pipe()

    def _forget_pipe(self) -> None:
        if self._ready_end >= 0:
            os.close(self._ready_end)
            self._ready_end = -1

    async def drained(self) -> None:
        """Workers write to the log themselves."""

    def advice(self, code: int | None) -> str:
        """Say what to do about a worker that did not start."""
        return "the log says why"
