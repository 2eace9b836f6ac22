"""One connection of the load generator: sends a request, checks the answer byte by byte."""

import asyncio
from collections.abc import Callable
from typing import cast, final

import httptools

from proxy.lab.application import DIGEST_FIELD, digest
from proxy.lab.load_job import BROKEN, GOOD, WRONG_BODY, Ask

# Distinct pages that were found to be right and are known again without a digest.
KNOWN_LIMIT = 64
_DIGEST_NAME = DIGEST_FIELD.lower().encode()

Outcome = Callable[["Client", str], None]


class Checker:
    """Knows the right answers to one `Ask`."""

    __slots__ = ("_body", "_key", "_known", "status")

    def __init__(self, ask: Ask) -> None:
        self.status = ask.status
        self._body = ask.body
        self._key = ask.key
        self._known: set[bytes] = set()

    def right(self, body: bytes, told: str) -> bool:
        """Say whether a body is the right one; `told` is the digest that came with it."""
        if self._body is not None:
            return body == self._body
        if body in self._known:
            return True
        if digest(self._key, body) != told:
            return False
        if len(self._known) < KNOWN_LIMIT:
            self._known.add(body)
        return True


@final
class Client(asyncio.Protocol):
    """A connection. `done` is called once for each request, with its outcome."""

    __slots__ = (
        "_checker", "_digest", "_done", "_parser", "_pieces", "_waiting", "began_at", "transport",
    )  # fmt: skip

    def __init__(self, checker: Checker, done: Outcome) -> None:
        self._checker = checker
        self._done = done
        self._pieces: list[bytes] = []
        self._digest = ""
        self._waiting = False
        self._parser = httptools.HttpResponseParser(self)
        self.transport: asyncio.Transport | None = None
        self.began_at = 0.0

    @property
    def open(self) -> bool:
        """Whether a request can be sent on it."""
        return self.transport is not None and not self.transport.is_closing()

    @property
    def waiting(self) -> bool:
        """Whether a request is out that has no answer yet."""
        return self._waiting

    def send(self, head: bytes, began_at: float) -> None:
        """Send a request; `began_at` is when it was meant to be sent."""
        self.began_at = began_at
        self._waiting = True
        if self.transport is not None:
            self.transport.write(head)
        else:  # the server has closed it meanwhile
            self._end(BROKEN)

    def give_up(self, outcome: str) -> None:
        """Close the connection; a request that waits has this outcome."""
        if self.transport is not None:
            self.transport.abort()
        self._end(outcome)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Feed the parser."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.give_up(BROKEN)

    def connection_lost(self, exc: Exception | None) -> None:
        """Whatever waits is broken off."""
        self.transport = None
        self._end(BROKEN)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take the digest of a page."""
        if len(name) == len(_DIGEST_NAME) and name.lower() == _DIGEST_NAME:
            self._digest = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        """Take a piece."""
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        """Judge the answer, and be ready for the next."""
        status = self._parser.get_status_code()
        body = b"".join(self._pieces)
        told, self._digest = self._digest, ""
        self._pieces.clear()
        if status != self._checker.status:
            outcome = str(status)
        else:
            outcome = GOOD if self._checker.right(body, told) else WRONG_BODY
        if not self._parser.should_keep_alive() and self.transport is not None:
            self.transport.close()
        self._end(outcome)

    def _end(self, outcome: str) -> None:
        if self._waiting:
            self._waiting = False
            self._done(self, outcome)


async def connect(host: str, port: int, checker: Checker, done: Outcome) -> Client | None:
    """Open a connection; None when it is refused."""
    loop = asyncio.get_running_loop()
    try:
        _, client = await loop.create_connection(lambda: Client(checker, done), host, port)
    except OSError:
        return None
    return client
