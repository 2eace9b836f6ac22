"""A client connection without a socket: bytes in, bytes out."""

import asyncio
import re
from copy import copy
from typing import Any

from proxy.clock import Clock
from proxy.message import Request
from proxy.pipeline.exchange import Peer, Step
from proxy.pipeline.site import Route, Site
from proxy.protocol.deadlines import Deadlines
from proxy.protocol.http1 import Http1
from proxy.protocol.limits import ClientLimits
from proxy.protocol.service import Service
from proxy.rules.forwarding import TrustedNetworks

DATE = re.compile(rb"Date: [^\r]*\r\n")


class FakeTransport(asyncio.Transport):
    """Remembers what was written; `room` is what a slow client takes before it stalls."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False
        self.aborted = False
        self.eof_written = False
        self.reading = True
        self.protocol: asyncio.BaseProtocol | None = None
        self.unsent = 0

    def write(self, data: Any) -> None:
        assert not self.closed
        self.written += bytes(data)

    def writelines(self, list_of_data: Any) -> None:
        for data in list_of_data:
            self.write(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.eof_written = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def take(self) -> bytes:
        """Return what was written since the last call, without Date fields."""
        written, self.written = self.written, b""
        return DATE.sub(b"", written)


class LogLines:
    """Stands for the access log."""

    def __init__(self) -> None:
        self.lines: list[tuple[bytes, int]] = []

    def add(
        self,
        client: str,
        request: Request | None,
        status: int,
        sent_bytes: int,
        duration_s: float,
        upstream_s: float,
        request_id: bytes,
    ) -> None:
        self.lines.append((request.target if request is not None else b"-", status))


class Wire:
    """One connection, all of whose requests are answered by `step`."""

    def __init__(
        self, step: Step, limits: ClientLimits | None = None, trusted: bool = False
    ) -> None:
        loop = asyncio.get_running_loop()
        self.log = LogLines()
        self.route = Route("test", step)
        self.site = Site((self.route,), TrustedNetworks(()), self.log)  # type: ignore[arg-type]
        self.service = Service(
            loop, self.site, limits or ClientLimits(), Clock(), Deadlines(loop.time())
        )
        self.transport = FakeTransport()
        peer = Peer("192.0.2.1", 40000, "192.0.2.80", 80, b"http", trusted)
        self.connection = Http1(self.service, peer)
        self.connection.connection_made(self.transport)

    def beside(self) -> "Wire":
        """Return a second connection to the same worker."""
        other = copy(self)
        other.transport = FakeTransport()
        other.connection = Http1(self.service, self.connection.peer)
        other.connection.connection_made(other.transport)
        return other

    def send(self, data: bytes) -> bytes:
        """Feed bytes and return what came back at once."""
        self.connection.data_received(data)
        return self.transport.take()

    def later(self, seconds: float) -> bytes:
        """Let so much time pass for the deadlines, and return what was written."""
        self.service.deadlines.sweep(self.service.loop.time() + seconds)
        return self.transport.take()
