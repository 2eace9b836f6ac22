"""Real servers for groups with several of them: they can stop, start again and fail."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from proxy.upstream.address import Address, TcpAddress, UnixAddress
from proxy.upstream.answer import AwaitedAnswer
from proxy.upstream.connection import UpstreamConnection
from proxy.upstream.group import Group
from proxy.upstream.response import UpstreamResponse
from proxy.upstream.wish import Wish


class Application:
    """Answers each request, or closes instead while it `fails`, on `path` or on a port."""

    def __init__(self, path: Path | None = None, context: ssl.SSLContext | None = None) -> None:
        self.fails = False
        self.requests = 0
        self.go_on = asyncio.Event()
        self.go_on.set()
        self._path = path
        self._context = context
        self._port = 0
        self._server: asyncio.Server | None = None
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def address(self) -> Address:
        """Where it listens, or will."""
        if self._path is not None:
            return UnixAddress(self._path)
        return TcpAddress("127.0.0.1", self._port)

    async def start(self) -> None:
        """Listen, on the same port as before."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
            self._server = await asyncio.start_unix_server(self._serve, str(self._path))
        else:
            self._server = await asyncio.start_server(
                self._serve, "127.0.0.1", self._port, ssl=self._context
            )
            self._port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """End as a process does that is killed."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                self.requests += 1
                await self.go_on.wait()
                if self.fails:
                    break
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def application(
    path: Path | None = None, context: ssl.SSLContext | None = None
) -> AsyncIterator[Application]:
    running = Application(path, context)
    await running.start()
    try:
        yield running
    finally:
        running.stop()
        await asyncio.sleep(0)


def ask(connection: UpstreamConnection) -> AwaitedAnswer:
    answer = AwaitedAnswer(lambda _status, _lines: None)
    connection.begin(answer, b"GET")
    connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    return answer


async def get(group: Group, wish: Wish | None = None) -> UpstreamResponse:
    return await ask(group.acquire_now(wish) or await group.acquire(wish))


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - a condition of real sockets, which nobody sets
            await asyncio.sleep(0.005)
