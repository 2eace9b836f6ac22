"""A real upstream on a unix socket that follows a script, and a client whose requests go to it."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

from proxy.pipeline.exchange import Step
from proxy.pipeline.forward import forward
from proxy.protocol.limits import ClientLimits
from proxy.upstream.address import UnixAddress
from proxy.upstream.group import Group
from proxy.upstream.options import GroupOptions
from tests.pipeline.bodies import until
from tests.protocol.wire import Wire

GET = b"GET /a?b HTTP/1.1\r\nHost: h\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
BEGIN = b"HTTP/1.1 200 OK\r\nServer: proxyd\r\n"
Script = Callable[["Server", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """A real upstream that follows a script on each connection."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.heads: list[bytes] = []
        self.contents: list[bytes] = []
        self.script: Script = answering()
        self.go_on = asyncio.Event()
        self.writers: list[asyncio.StreamWriter] = []
        self.tasks: list[asyncio.Task[None] | None] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        self.tasks.append(asyncio.current_task())
        try:
            await self.script(self, reader, writer)
            await reader.read()
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            pass
        finally:
            writer.close()

    async def head(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        return head

    async def take(self, reader: asyncio.StreamReader) -> None:
        """Read one request with its content."""
        head = (await self.head(reader)).lower()
        content = b""
        if b"transfer-encoding: chunked" in head:
            while size := int(await reader.readline(), 16):
                content += await reader.readexactly(size)
                await reader.readexactly(2)
            content += await reader.readuntil(b"\r\n")
        elif b"content-length: " in head:
            length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            content = await reader.readexactly(length)
        self.contents.append(content)


def answering(*answers: bytes) -> Script:
    """Answer each request with the next of `answers`, the last one again and again."""

    async def script(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        left = list(answers or (OK,))
        while True:
            await server.take(reader)
            writer.write(left.pop(0) if len(left) > 1 else left[0])

    return script


class Client:
    """A client connection whose every request goes to `server`."""

    def __init__(
        self,
        server: Server,
        options: GroupOptions | None = None,
        limits: ClientLimits | None = None,
        step: Step = forward,
    ) -> None:
        self.group = Group("demo", [UnixAddress(server.path)], options or GroupOptions())
        self.wire = Wire(step, limits)
        self.route = self.wire.route
        self.route.group = self.group
        self.transport = self.wire.transport

    def send(self, data: bytes) -> None:
        self.wire.connection.data_received(data)

    async def feed(self, data: bytes) -> None:
        """Send as a client does that waits while nobody reads."""
        for start in range(0, len(data), 50_000):
            await until(lambda: self.transport.reading)
            self.send(data[start : start + 50_000])

    async def done(self, requests: int = 1) -> bytes:
        """Wait for so many log lines; return all that was written."""
        await until(lambda: len(self.wire.log.lines) >= requests)
        return self.transport.take()

    async def ask(self, data: bytes) -> bytes:
        before = len(self.wire.log.lines)
        self.send(data)
        return await self.done(before + 1)

    async def says(self, data: bytes) -> None:
        await until(lambda: data in self.transport.written)

    def leave(self) -> None:
        self.transport.closed = True
        self.wire.connection.connection_lost(None)


async def close(client: Client) -> None:
    if not client.transport.closed:
        client.leave()
    client.group.close()
    client.group.sweep(float("inf"))
    await until(lambda: client.group.connections == 0)
