"""An upstream that answers by itself, and remembers everything that it was asked and has sent.

As `Upstream` is for one request that the test answers by hand, this is for a thousand: what a
target gets is a function of the test's, which may hold an answer, or the rest of it, behind a gate.
"""

import asyncio
import hashlib
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from time import monotonic

FOR_ALL = "Cache-Control: public, max-age=600"
# What may wait to be accepted: more than any test's clients at once.
BACKLOG = 2048
NOT_MODIFIED = "304 Not Modified"


class Gate:
    """Holds back what waits for it until `open` is called, from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._event = asyncio.Event()

    def open(self) -> None:
        self._loop.call_soon_threadsafe(self._event.set)

    async def passed(self) -> None:
        await self._event.wait()


@dataclass
class Asked:
    """One request; `number` counts those for its target, from 1."""

    method: str
    target: str
    fields: dict[str, str]
    number: int


@dataclass
class Answer:
    """What is sent: the head behind `hold`, then the content piece by piece and gate by gate.

    With NOT_MODIFIED, `content` is what the client is to have already.
    """

    content: bytes | Sequence[bytes | Gate] = b""
    fields: Sequence[str] = (FOR_ALL,)
    status: str = "200 OK"
    hold: Gate | None = None

    @property
    def pieces(self) -> Sequence[bytes | Gate]:
        return (self.content,) if isinstance(self.content, bytes) else self.content

    @property
    def whole(self) -> bytes:
        return b"".join(piece for piece in self.pieces if isinstance(piece, bytes))


@dataclass
class Sent:
    """A content that was sent, and when it was current for the last time; monotonic."""

    target: str
    current_at: float


Answering = Callable[[Asked], Answer]


class Origin:
    """Listens on `port` of this machine; each request is answered on its own."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.sent: dict[str, Sent] = {}
        self.at_once = 0
        self.most_at_once = 0
        self.port = 0
        self._numbers: Counter[str] = Counter()
        self._answering: dict[str, Answering] = {}
        self._loop = asyncio.new_event_loop()
        self._connections: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def on(self, path: str, answering: Answering) -> None:
        """Let `answering` say what this path gets, and everything below it if it ends with "/"."""
        self._answering[path] = answering

    def gate(self) -> Gate:
        return Gate(self._loop)

    def count(self, target: str) -> int:
        """Return how often a target was asked for."""
        return self._numbers[target]

    def last(self, target: str) -> Asked:
        return next(asked for asked in reversed(self.asked) if asked.target == target)

    def start(self) -> None:
        """Begin to listen, on the port of the time before."""
        asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    def stop(self) -> None:
        """Refuse and end all connections."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", self.port, family=socket.AF_INET, backlog=BACKLOG
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        connections = list(self._connections)
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                while True:
                    await self._take(await reader.readuntil(b"\r\n\r\n"), reader, writer)
        except asyncio.CancelledError:  # asyncio tells the log of a connection that is cancelled
            writer.transport.abort()
        finally:
            self._connections.discard(task)
            writer.close()

    async def _take(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Answer one request."""
        start, *lines = head.decode("latin-1")[:-4].split("\r\n")
        method, target, _ = start.split(" ")
        fields = {
            name.lower(): value for name, _, value in (line.partition(": ") for line in lines)
        }
        await reader.readexactly(int(fields.get("content-length", 0)))
        self._numbers[target] += 1
        asked = Asked(method, target, fields, self._numbers[target])
        self.asked.append(asked)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self._answer(asked, writer)
        finally:
            self.at_once -= 1

    async def _answer(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        answer = self._said_to(asked)
        content = answer.whole
        self.sent[digest(content)] = Sent(asked.target, monotonic())
        if answer.hold is not None:
            await answer.hold.passed()
        bodiless = asked.method == "HEAD" or answer.status == NOT_MODIFIED
        length = () if answer.status == NOT_MODIFIED else (f"Content-Length: {len(content)}",)
        head = [f"HTTP/1.1 {answer.status}", *answer.fields, *length, "", ""]
        writer.write("\r\n".join(head).encode())
        for piece in () if bodiless else answer.pieces:
            if isinstance(piece, bytes):
                writer.write(piece)
                await writer.drain()
            else:
                await piece.passed()
        await writer.drain()

    def _said_to(self, asked: Asked) -> Answer:
        path = asked.target.partition("?")[0]
        while path not in self._answering:
            path = path[:-1].rpartition("/")[0] + "/" if path != "/" else ""
            if not path:
                return Answer(f"{asked.target} {asked.number}".encode())
        return self._answering[path](asked)

    def run(self) -> None:
        self._loop.run_forever()
        self._loop.close()

    def close(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)


def digest(content: bytes) -> str:
    """Return the SHA-256 of a content."""
    return hashlib.sha256(content).hexdigest()


@contextmanager
def listening_origin() -> Iterator[Origin]:
    """Run an origin in a thread."""
    origin = Origin()
    thread = threading.Thread(target=origin.run)
    thread.start()
    try:
        origin.start()
        yield origin
    finally:
        origin.close()
        thread.join(10)
