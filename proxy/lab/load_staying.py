"""The crowds of the load generator that stay: idle connections, slow uploads, slow downloads.

They are in place before the others come, and go when those have gone.
"""

import asyncio
import socket
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import final

from proxy.lab.load_client import Checker, Client, connect
from proxy.lab.load_job import BROKEN, GOOD, REFUSED, TIMED_OUT, Crowd, CrowdTold, LoadJob

# As many connections are opened at a time as fit any server's backlog.
BATCH = 50
PIECES_PER_S = 5
RECEIVE_BUFFER_BYTES = 4096
# What it costs to let all of them in at once is not what the visitor is asked about.
SETTLE_S = 0.6

Work = Callable[[asyncio.AbstractEventLoop, socket.socket], Awaitable[str]]


@final
class IdleCrowd:
    """Connections that have asked once, and then stay open."""

    def __init__(self, job: LoadJob, crowd: Crowd) -> None:
        self._job = job
        self._crowd = crowd
        self._checker = Checker(crowd.ask)
        self._answers: Counter[str] = Counter()
        self._clients: list[Client] = []

    async def settle(self) -> int:
        """Open all connections; return how many were answered within the time for one answer."""
        loop = asyncio.get_running_loop()
        for first in range(0, self._crowd.count, BATCH):
            batch = range(first, min(first + BATCH, self._crowd.count))
            tasks = [loop.create_task(self._enter()) for _ in batch]
            _, late = await asyncio.wait(tasks, timeout=self._job.timeout_s)
            for task in late:
                task.cancel()
                self._answers[TIMED_OUT] += 1
            if late:
                # The server takes no more; the others would only wait as long.
                self._answers[TIMED_OUT] += self._crowd.count - batch.stop
                break
        return self._answers[GOOD]

    async def _enter(self) -> None:
        answered: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def done(_: Client, outcome: str) -> None:
            if not answered.done():
                answered.set_result(outcome)

        client = await connect(self._job.host, self._job.port, self._checker, done)
        if client is None:
            self._answers[REFUSED] += 1
            return
        self._clients.append(client)
        client.send(self._crowd.ask.head, 0.0)
        self._answers[await answered] += 1

    async def leave(self) -> CrowdTold:
        """Close all; return how many were still open."""
        still = sum(client.open for client in self._clients)
        for client in self._clients:
            client.give_up(GOOD)
        return CrowdTold(answers=dict(self._answers), visits=[], connected=still)


@final
class SlowCrowd:
    """Clients that send or receive a few bytes at a time, as a telephone on a train does."""

    def __init__(self, job: LoadJob, crowd: Crowd) -> None:
        self._job = job
        self._crowd = crowd
        self._piece = max(1, round(crowd.rate / PIECES_PER_S))
        self._tasks: list[asyncio.Task[None]] = []
        self._answers: Counter[str] = Counter()
        self._connected = 0

    async def settle(self) -> int:
        """Connect as many as the server lets in at once; the others go on trying."""
        loop = asyncio.get_running_loop()
        work = self._upload if self._crowd.kind == "upload" else self._download
        self._tasks = [loop.create_task(self._again(work)) for _ in range(self._crowd.count)]
        await asyncio.sleep(SETTLE_S)
        return self._connected

    async def leave(self) -> CrowdTold:
        """Break off all of them."""
        connected = self._connected
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return CrowdTold(answers=dict(self._answers), visits=[], connected=connected)

    async def _again(self, work: Work) -> None:
        loop = asyncio.get_running_loop()
        while True:
            # One of a few bytes of room: what the client does not read stays with the server.
            with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
                sock.setblocking(False)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
                try:
                    await loop.sock_connect(sock, (self._job.host, self._job.port))
                    self._connected += 1
                    try:
                        self._answers[await work(loop, sock)] += 1
                    finally:
                        self._connected -= 1
                except OSError:
                    self._answers[REFUSED] += 1
            await asyncio.sleep(1 / PIECES_PER_S)

    async def _upload(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> str:
        await loop.sock_sendall(sock, self._crowd.ask.head)
        for _ in range(0, self._crowd.content, self._piece):
            await loop.sock_sendall(sock, bytes(self._piece))
            await asyncio.sleep(1 / PIECES_PER_S)
        return status_of(await loop.sock_recv(sock, 65536))

    async def _download(self, loop: asyncio.AbstractEventLoop, sock: socket.socket) -> str:
        await loop.sock_sendall(sock, self._crowd.ask.head)
        first = piece = await loop.sock_recv(sock, self._piece)
        left = self._crowd.content
        while piece and left > 0:
            await asyncio.sleep(1 / PIECES_PER_S)
            piece = await loop.sock_recv(sock, self._piece)
            left -= len(piece)
        return status_of(first)


def status_of(start: bytes) -> str:
    """Return the outcome that an answer's first bytes tell."""
    status = start[9:12].decode("latin-1")
    return GOOD if status == "200" else status or BROKEN
