"""The upstream of the forwarded job: a process that answers every request of a second alike.

Run as `python -m bench.upstream`; prints its port. As little as can be: what it costs is the same
for both servers, but while they wait for it they have less to do at once. Like any server it says
the time, so that its answers are not the same for ever.
"""

import asyncio
from email.utils import formatdate

from bench.jobs import SMALL

HEAD_END = b"\r\n\r\n"
ANSWER = (
    b"HTTP/1.1 200 OK\r\n"
    b"Server: upstream\r\n"
    b"Date: %b\r\n"
    b"Content-Type: image/png\r\n"
    b"Cache-Control: private, no-cache\r\n"
    b"Content-Length: %d\r\n\r\n%b"
)


class Clock:
    """Holds the answer of this second."""

    def __init__(self) -> None:
        self.answer = b""

    def tick(self) -> None:
        """Write the answer anew, each second."""
        self.answer = ANSWER % (formatdate(usegmt=True).encode(), len(SMALL), SMALL)
        asyncio.get_running_loop().call_later(1, self.tick)


class Alike(asyncio.Protocol):
    """Answers each head; knows no bodies."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.transport: asyncio.Transport | None = None
        self.held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Answer the heads that are complete."""
        data = self.held + data
        *heads, self.held = data.split(HEAD_END)
        if heads and self.transport is not None:
            self.transport.write(self.clock.answer * len(heads))


async def main() -> None:
    """Serve until killed."""
    clock = Clock()
    clock.tick()
    server = await asyncio.get_running_loop().create_server(lambda: Alike(clock), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
