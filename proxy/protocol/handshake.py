"""One TLS handshake, between the acceptance of a connection and its first request.

    accepted ──(PROXY header)──→ handshake ──→ Http1 over TLS
                                     └─ failed, too slow, or too many: closed

How many are in progress is bounded: past it the oldest goes, because one that is meant takes two
round trips, and one that is not stays as long as it may.
"""

import asyncio
import logging
import ssl
from typing import TYPE_CHECKING

from proxy.pipeline.exchange import Peer
from proxy.protocol.http1 import Http1, as_protocol
from proxy.protocol.tls import Telling

if TYPE_CHECKING:
    from proxy.protocol.service import Service
    from proxy.protocol.tls import Contexts

log = logging.getLogger("proxyd.tls")

# For who asks in the clear where TLS is spoken: nginx's status 497, Go's 400.
NOT_TLS = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    b"Content-Length: 49\r\n\r\nThis port speaks HTTPS: ask with https:// for it\n"
)


class Gate(asyncio.BufferedProtocol):
    """Stands before the protocol of TLS until the handshake is over, and sees when it fails.

    Says goodbye then, behind the alert, which has been sent. The rest is for the client to end, in
    the time of a handshake: what it still sends would be answered with a reset, and that would take
    the alert away from it again.
    """

    __slots__ = ("behind", "transport")

    def __init__(self, transport: asyncio.Transport, behind: asyncio.BufferedProtocol) -> None:
        self.transport = transport
        self.behind = behind

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where to read to."""
        return self.behind.get_buffer(sizehint)  # type: ignore[return-value]

    def buffer_updated(self, nbytes: int) -> None:
        """Hand over what was read, and see what comes of it."""
        Telling.latest_failure = None
        self.behind.buffer_updated(nbytes)
        failure, Telling.latest_failure = Telling.latest_failure, None
        transport = self.transport
        if failure is not None and not transport.is_closing():
            if failure.reason == "HTTP_REQUEST":
                transport.write(NOT_TLS)
            transport.write_eof()

    def eof_received(self) -> bool | None:
        """Pass it on."""
        return self.behind.eof_received()

    def pause_writing(self) -> None:
        """Pass it on."""
        self.behind.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self.behind.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on."""
        self.behind.connection_lost(exc)


class Handshake(asyncio.Protocol):
    """The protocol of a connection until it speaks HTTP; holds what comes early."""

    __slots__ = (
        "ahead",
        "connection",
        "early",
        "front",
        "identify",
        "peer",
        "service",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(
        self, service: "Service", peer: Peer, contexts: "Contexts", ahead: bytes = b""
    ) -> None:
        self.service = service
        self.peer = peer
        self.ahead = ahead
        self.identify = contexts.identify
        self.front = contexts.front
        self.early = b""
        self.connection: Http1 | None = None

    def begin(self, transport: asyncio.Transport) -> None:
        """Start; `ahead` is what was read from `transport` already."""
        self.transport = transport
        service = self.service
        waiting = service.handshakes
        if len(waiting) >= service.limits.handshakes:
            next(iter(waiting)).give_up()
        waiting[self] = None
        transport.set_protocol(self)
        limits = service.limits
        # What is left to send at the end is given the time that any sending has.
        task = service.loop.create_task(
            service.loop.start_tls(
                transport,
                self,
                self.front,
                server_side=True,
                ssl_handshake_timeout=limits.handshake_timeout_s,
                ssl_shutdown_timeout=limits.send_timeout_s,
            )
        )
        task.add_done_callback(self._done)
        # Behind the first step of the task, which puts the protocol of TLS in place.
        service.loop.call_soon(self._watch)

    def _watch(self) -> None:
        """See what comes of the bytes that are read from now on."""
        transport = self.transport
        if transport.is_closing():
            return
        gate = Gate(transport, transport.get_protocol())  # type: ignore[arg-type]
        transport.set_protocol(gate)
        # Behind the beginning of TLS, which that step of the task has put off as well.
        self.service.loop.call_soon(self._feed, gate)

    def _feed(self, gate: Gate) -> None:
        """Hand over what was read before TLS had the transport."""
        ahead, self.ahead = self.ahead, b""
        while ahead and not self.transport.is_closing():
            room = memoryview(gate.get_buffer(len(ahead)))
            size = min(len(room), len(ahead))
            room[:size] = ahead[:size]
            gate.buffer_updated(size)
            ahead = ahead[size:]

    def give_up(self) -> None:
        """End it in favour of another one."""
        self.service.handshakes.pop(self, None)
        self.transport.abort()

    def _done(self, task: "asyncio.Task[asyncio.Transport | None]") -> None:
        """The handshake is complete, or has failed."""
        service = self.service
        service.handshakes.pop(self, None)
        transport = None
        try:
            transport = task.result()
        except asyncio.CancelledError:
            log.debug("TLS handshake with %s was cut off", self.peer.address)
        except OSError as error:  # ssl.SSLError is one
            log.debug("TLS handshake with %s failed: %s", self.peer.address, error)
        gate = self.transport.get_protocol()
        if isinstance(gate, Gate):
            self.transport.set_protocol(gate.behind)
        if transport is None or self.transport.is_closing():
            service.handshakes_failed += 1
            (transport or self.transport).abort()
        else:
            service.handshakes_complete += 1
            self._speak_http(transport)
        service.settle()

    def _speak_http(self, transport: asyncio.Transport) -> None:
        """Let the connection speak HTTP, beginning with what came early."""
        peer = self.peer
        peer.scheme = b"https"
        if self.identify is not None:
            connected: ssl.SSLObject = transport.get_extra_info("ssl_object")
            peer.certificate = self.identify(connected.getpeercert(binary_form=True))
        self.connection = connection = Http1(self.service, peer)
        transport.set_protocol(as_protocol(connection))
        connection.connection_made(transport)
        if self.service.draining:
            connection.await_last_head()
        if self.early and not transport.is_closing():
            connection.data_received(self.early)
        self.early = b""

    # From the transport.

    def data_received(self, data: bytes) -> None:
        """Keep what comes before TLS has the transport, and what comes in one read with its end."""
        if self.transport.get_protocol() is self:
            self.ahead += data
        else:
            self.early += data

    def eof_received(self) -> None:
        """Let the transport close: who says goodbye now has nothing to ask."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on what was meant for the successor."""
        if self.connection is not None:
            self.connection.connection_lost(exc)
