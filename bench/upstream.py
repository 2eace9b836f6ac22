"""The upstream of both servers: a process that answers alike within a second, and counts.

Run as `python -m bench.upstream`; prints its port. As little as can be: what it costs is the same
for both servers, but while they wait for it they have less to do at once. Like any server it says
the time, so that its answers are not the same for ever.
"""

import asyncio
import time
from dataclasses import dataclass
from email.utils import formatdate
from typing import final

from bench.jobs import ETAG, HUGE, MEDIUM, SMALL

HEAD_END = b"\r\n\r\n"
# Answers how many requests came so far, and is none of them.
COUNT_PATH = "/requests"
HEAD = (
    b"HTTP/1.1 %b\r\n"
    b"Server: upstream\r\n"
    b"Date: %b\r\n"
    b"Content-Type: image/png\r\n"
    b"ETag: %b\r\n"
    b"Cache-Control: %b\r\n"
)
ENTITY_TAG = ETAG.encode()


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What is at a path. `delay_s`: how long an application thinks about it."""

    body: bytes
    cache_control: bytes = b"public, max-age=86400"
    delay_s: float = 0


# By the first two steps of a path.
CONTENTS = {
    b"/feed?page=2": Content(body=SMALL, cache_control=b"private, no-cache"),
    b"/cached/small.png": Content(body=SMALL),
    b"/cached/medium.png": Content(body=MEDIUM),
    b"/cached/huge.png": Content(body=HUGE),
    b"/cached/new": Content(body=SMALL),
    b"/cached/slow": Content(body=SMALL, delay_s=0.01),
    # Caches that look at Date, which has no parts of a second, count up to one of them as age.
    b"/cached/expiring": Content(body=SMALL, cache_control=b"public, max-age=2", delay_s=0.01),
}
NOWHERE = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"


class Answers:
    """Holds the heads of this second, and the count."""

    def __init__(self) -> None:
        self.whole: dict[bytes, bytes] = {}
        self.unchanged: dict[bytes, bytes] = {}
        self.count = 0

    def tick(self) -> None:
        """Write the heads anew, as each second begins."""
        date = formatdate(usegmt=True).encode()
        for path, content in CONTENTS.items():
            said = (date, ENTITY_TAG, content.cache_control)
            length = b"Content-Length: %d\r\n\r\n" % len(content.body)
            self.whole[path] = HEAD % (b"200 OK", *said) + length
            self.unchanged[path] = HEAD % (b"304 Not Modified", *said) + b"\r\n"
        asyncio.get_running_loop().call_later(1 - time.time() % 1, self.tick)

    def to(self, head: bytes) -> tuple[bytes, float]:
        """Return the answer to a request, and in how many seconds."""
        target = head.split(b" ", 2)[1]
        if target == COUNT_PATH.encode():
            text = b"%d" % self.count
            return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(text), text), 0
        self.count += 1
        path = b"/".join(target.split(b"/", 3)[:3])
        content = CONTENTS.get(path)
        if content is None:
            return NOWHERE, 0
        if ENTITY_TAG in head:
            return self.unchanged[path], content.delay_s
        return self.whole[path] + content.body, content.delay_s


class Alike(asyncio.Protocol):
    """Answers each head; knows no bodies, and nobody who asks twice before an answer."""

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.transport: asyncio.Transport | None = None
        self.held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        """Answer the heads that are complete."""
        *heads, self.held = (self.held + data).split(HEAD_END)
        for head in heads:
            answer, delay_s = self.answers.to(head)
            if delay_s:
                asyncio.get_running_loop().call_later(delay_s, self.write, answer)
            else:
                self.write(answer)

    def write(self, answer: bytes) -> None:
        """Send an answer, if somebody is still there."""
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write(answer)


async def main() -> None:
    """Serve until killed."""
    answers = Answers()
    answers.tick()
    server = await asyncio.get_running_loop().create_server(lambda: Alike(answers), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
