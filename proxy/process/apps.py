"""One [app.NAME] of proxy.toml: its processes, their sockets, and their output in proxyd's log."""

import asyncio
import os
import socket
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from proxy.config.backends import App
from proxy.observe.logs import relay
from proxy.process import serve_wsgi
from proxy.process.lines import LineSplitter
from proxy.process.privileges import Identity

_READ_BYTES = 64 * 1024
# What is repeated to who asked for a reload that failed: a traceback through Flask has room.
_RECENT_LINES = 100
_POLL_S = 0.02


class AppProgram:
    """One process of an application (see children.py)."""

    def __init__(
        self,
        name: str,
        app: App,
        *,
        title: str,
        socket_path: Path,
        folder: Path,
        identity: Identity | None,
        for_others: bool = False,
    ) -> None:
        self.name = title
        self.socket_path = socket_path
        self.start_timeout_s = app.start_timeout
        self._app = app
        self.key = name
        self._folder = folder
        self._identity = identity
        self._for_others = for_others
        self._relay: asyncio.Task[None] | None = None
        self.recent_output: deque[str] = deque(maxlen=_RECENT_LINES)

    async def spawn(self) -> Process:
        """Start the server with the application, as the runtime user, in proxy.toml's folder."""
        app = self._app
        environment = os.environ | (self._identity.environment() if self._identity else {})
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",  # the folder goes on the import path behind proxyd's own imports
            "-u",  # what the application prints is in the log at once
            serve_wsgi.__file__,
            "--server", app.server,
            "--socket", str(self.socket_path),
            "--threads", str(app.threads),
            "--life-line",
            *(["--for-others"] if self._for_others else []),
            *(f"--sendfile={folder}" for folder in app.sendfile.values()),
            app.wsgi,
            cwd=self._folder,
            env=environment | app.env,
            stdin=PIPE,
            stdout=PIPE,
            stderr=STDOUT,
            start_new_session=True,
            **(self._identity.process_options() if self._identity else {}),
        )  # fmt: skip
        if process.stdout is not None:
            self._relay = asyncio.create_task(self._relay_output(process.stdout))
        return process

    async def _relay_output(self, stream: asyncio.StreamReader) -> None:
        """Write the process's output to the log, always reading on: it must never have to wait."""
        splitter = LineSplitter()
        while data := await stream.read(_READ_BYTES):
            self._log(splitter.feed(data))
            await asyncio.sleep(0)  # one that floods the log leaves room for the others
        self._log(splitter.finish())

    def _log(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            text = line.decode("utf-8", "backslashreplace")
            self.recent_output.append(text)
            relay(self.name, text)

    async def ready(self, process: Process) -> None:
        """Return when the socket takes a connection: the application is imported by then."""
        while not _connects(self.socket_path):  # noqa: ASYNC110 - nothing tells of another's socket
            await asyncio.sleep(_POLL_S)

    async def failing(self, process: Process) -> str:
        """An application is replaced when it has ended, and not before."""
        await process.wait()
        return "it has ended"

    async def drained(self) -> None:
        """Return when the output of the ended process is in the log."""
        if self._relay is not None:
            await asyncio.shield(self._relay)

    def advice(self, code: int | None) -> str:
        """Say what to do about an application that did not start."""
        where = f"[app.{self.key}]"
        if code is None:
            return (
                f"look at its output in the log; if it needs longer, raise start_timeout in {where}"
            )
        if code == serve_wsgi.CANNOT_LOAD:
            return f'the log says why; correct it, or wsgi = "{self._app.wsgi}" in {where}'
        return "its output is in the log"


def _connects(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except OSError:
            return False
        return True


def programs_of(
    name: str,
    app: App,
    *,
    folder: Path,
    sockets_folder: Path,
    identity: Identity | None,
    for_others: bool = False,
) -> list[AppProgram]:
    """Return the programs that make up one application, one for each of its processes.

    With `for_others`, the workers are another user: `sockets_folder` lets in who may connect.
    """
    return [
        AppProgram(
            name,
            app,
            title=f"app {name}" if app.processes == 1 else f"app {name} {number + 1}",
            socket_path=sockets_folder / f"{name}-{number}.sock",
            folder=folder,
            identity=identity,
            for_others=for_others,
        )
        for number in range(app.processes)
    ]
