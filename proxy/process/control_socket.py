"""The master's control socket: who may open it commands the daemon (state_dir/master.sock).

    client ──▶ {"command": "reload"}
           ◀── {"progress": "starting app timeline"}   any number of them
           ◀── {"done": true, "text": "…", "data": {…}}   one; `done` is false when it failed

JSON, one object on each line. The file's mode, 0600, is the whole protection.

The control process (control_program.py), who is not the file's owner when the master is root, has a
socket to the master from birth. There, commands run side by side: each has an "id", which stands in
what is said about it.
"""

import asyncio
import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from proxy.errors import ProxydError, StartError
from proxy.process.generation import Tell
from proxy.process.paths import near

SOCKET_NAME = "master.sock"
REQUEST_BYTES = 4096
# A person and a few scripts; each may wait for its turn as long as its command takes.
_CLIENTS = 16
# From connecting to a whole request, and for each answer to be taken: both are on one machine.
_TALK_S = 5.0
_BACKLOG = 16

Handler = Callable[[Tell], Awaitable["Outcome"]]
Outcome = tuple[str, dict[str, Any]]

log = logging.getLogger(__name__)


class ControlSocket:
    """Answers commands; a handler may tell of its progress, and returns a text and data."""

    def __init__(self, folder: Path, handlers: Mapping[str, Handler]) -> None:
        self._path = folder / SOCKET_NAME
        self._handlers = handlers
        self._server: asyncio.Server | None = None
        self._made: os.stat_result | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._children: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Listen in the place of whoever did before; the caller holds the folder's lock."""
        try:
            sock = self._bind()
        except OSError as error:
            raise StartError(f"cannot listen on {self._path}: {error.strerror}") from None
        self._server = await asyncio.start_unix_server(
            self._serve, sock=sock, backlog=_BACKLOG, limit=REQUEST_BYTES
        )

    def _bind(self) -> socket.socket:
        """Bind under another name and rename: at no time is there nobody, or a wider mode."""
        new = self._path.with_suffix(".new")
        new.unlink(missing_ok=True)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        before = os.umask(0o177)
        try:
            with near(new) as path:
                sock.bind(path)
            sock.listen(_BACKLOG)
            self._made = new.lstat()
            new.replace(self._path)
        except OSError:
            sock.close()
            raise
        finally:
            os.umask(before)
        return sock

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._clients) >= _CLIENTS:
            writer.close()
            return
        self._clients.add(task)
        try:
            await self._answer(reader, writer)
        except (OSError, TimeoutError, asyncio.CancelledError):
            pass  # who is not there any more has no use for an answer
        finally:
            self._clients.discard(task)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_TALK_S):
            try:
                asked = await reader.readline()
            except ValueError:  # longer than any command
                asked = b""
        await self._carry_out(asked, writer)

    async def _carry_out(self, asked: bytes, writer: asyncio.StreamWriter) -> None:
        """Do what one line asks for, and say how it went."""
        mark: dict[str, Any] = {}
        try:
            wanted = json.loads(asked)
            mark = {"id": wanted["id"]} if "id" in wanted else {}
            handler = self._handlers[wanted["command"]]
        except (ValueError, KeyError, TypeError):
            known = ", ".join(sorted(self._handlers))
            text = f"no such command; there are: {known}"
            await _send(writer, {"done": False, "text": text, **mark})
            return

        def tell(text: str) -> None:
            # What nobody reads must not pile up; the outcome is what matters.
            if writer.transport.get_write_buffer_size() < REQUEST_BYTES * 16:
                writer.write(_line({"progress": text, **mark}))

        try:
            text, data = await handler(tell)
        except ProxydError as error:
            await _send(writer, {"done": False, "text": str(error), **mark})
        except asyncio.CancelledError:
            await _send(writer, {"done": False, "text": "proxyd ends", **mark})
        except Exception:
            log.exception("a command failed")
            await _send(writer, {"done": False, "text": "it failed; the log says why", **mark})
        else:
            await _send(writer, {"done": True, "text": text, "data": data, **mark})

    def attend(self, sock: socket.socket) -> None:
        """Serve the other end of `sock` until it is closed there."""
        task = asyncio.create_task(self._attend(sock))
        self._children.add(task)
        task.add_done_callback(self._children.discard)

    async def _attend(self, sock: socket.socket) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=sock, limit=REQUEST_BYTES)
        running: set[asyncio.Task[None]] = set()
        try:
            async for line in reader:
                task = asyncio.create_task(self._carry_out_for_child(line, writer))
                running.add(task)
                task.add_done_callback(running.discard)
                if len(running) >= _CLIENTS:
                    await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        except (OSError, ValueError) as error:
            log.warning("the control process is not heard any more: %s", error)
        finally:
            for task in running:
                task.cancel()
            writer.close()

    async def _carry_out_for_child(self, asked: bytes, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, TimeoutError):  # who has ended has no use for an answer
            await self._carry_out(asked, writer)

    async def close(self) -> None:
        """Let those who still wait have their outcome, and remove the file."""
        for child in self._children:
            child.cancel()
        if self._server is None:
            return
        self._server.close()
        if self._clients:
            _, late = await asyncio.wait(self._clients, timeout=1.0)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        with suppress(OSError):
            if self._made is not None and os.path.samestat(self._path.lstat(), self._made):
                self._path.unlink()


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"


async def _send(writer: asyncio.StreamWriter, value: dict[str, Any]) -> None:
    writer.write(_line(value))
    async with asyncio.timeout(_TALK_S):
        await writer.drain()
