"""One TLS handshake, between the acceptance of a connection and its first request.

    accepted ──(PROXY header)──→ handshake ──→ Http1 over TLS
                                     ├─ failed: told why, then closed
                                     └─ too slow, or too many: closed

How many are in progress is bounded: past it the oldest goes, because one that is meant takes two
round trips, and one that is not stays as long as it may.
"""

import asyncio
import logging
import ssl
from typing import TYPE_CHECKING, Final, cast

from proxy.pipeline.exchange import Peer
from proxy.protocol.deadlines import NEVER
from proxy.protocol.http1 import Http1, as_protocol
from proxy.protocol.tls_transport import RECORD_BYTES, TlsTransport

if TYPE_CHECKING:
    from proxy.protocol.service import Service
    from proxy.protocol.tls import Contexts

log: Final = logging.getLogger("proxyd.tls")

# For who asks in the clear where TLS is spoken: nginx's status 497, Go's 400.
NOT_TLS: Final = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n"
    b"Content-Length: 49\r\n\r\nThis port speaks HTTPS: ask with https:// for it\n"
)


class Handshake:
    """The protocol of a connection until it speaks HTTP: an asyncio.Protocol but for the base.

    Who fails gets OpenSSL's alert (RFC 8446 §6.2) and the end of our side. The rest is for the
    client to end, in the time of a handshake: what it still sends would be answered with a reset,
    and that would take the alert away from it again.
    """

    __slots__ = (
        "bucket",
        "connection",
        "deadline_at",
        "failed",
        "identify",
        "incoming",
        "outgoing",
        "peer",
        "service",
        "transport",
    )

    def __init__(
        self,
        service: "Service",
        peer: Peer,
        contexts: "Contexts",
        transport: asyncio.Transport,
    ) -> None:
        self.service = service
        self.peer = peer
        self.transport = transport
        self.identify = contexts.identify
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.connection = contexts.front.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.failed = False
        self.deadline_at = NEVER
        self.bucket = NEVER

    def begin(self, ahead: bytes) -> None:
        """Start; `ahead` is what was read from the transport already."""
        service = self.service
        waiting = service.handshakes
        if len(waiting) >= service.limits.handshakes:
            next(iter(waiting)).give_up()
        waiting[self] = None
        self.transport.set_protocol(cast("asyncio.Protocol", self))
        service.deadlines.set(self, service.loop.time() + service.limits.handshake_timeout_s)
        if ahead:
            self.data_received(ahead)

    def give_up(self) -> None:
        """End it in favour of another one."""
        self.service.handshakes.pop(self, None)
        self.transport.abort()

    def on_deadline(self, now: float) -> None:
        """It took too long."""
        log.debug("TLS handshake with %s took too long", self.peer.address)
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        """Go on with the handshake, a record at a time: see RECORD_BYTES."""
        for start in range(0, len(data), RECORD_BYTES):
            if self.failed or self.transport.is_closing():
                return
            self.incoming.write(data[start : start + RECORD_BYTES])
            try:
                self.connection.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
            except ssl.SSLError as error:
                self._fail(error)
            else:
                self._flush()  # tickets
                self._speak_http(data[start + RECORD_BYTES :])
                return

    def _flush(self) -> None:
        if self.outgoing.pending:
            self.transport.write(self.outgoing.read())

    def _fail(self, error: ssl.SSLError) -> None:
        log.debug("TLS handshake with %s failed: %s", self.peer.address, error)
        self._count_failure()
        self._flush()
        reason: object = getattr(error, "reason", None)  # None for what Python has no name for
        if reason == "HTTP_REQUEST":
            self.transport.write(NOT_TLS)
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def _count_failure(self) -> None:
        if not self.failed:
            self.failed = True
            self.service.handshakes_failed += 1

    def _speak_http(self, early: bytes) -> None:
        """Let the connection speak HTTP, beginning with what came with the handshake's end."""
        service = self.service
        service.deadlines.forget(self)
        service.handshakes.pop(self, None)
        service.handshakes_complete += 1
        peer = self.peer
        peer.scheme = b"https"
        if self.identify is not None:
            peer.certificate = self.identify(self.connection.getpeercert(binary_form=True))
        below = self.transport
        tls = TlsTransport(service, below, self.connection, self.incoming, self.outgoing)
        below.set_protocol(cast("asyncio.Protocol", tls))
        connection = Http1(service, peer)
        tls.set_protocol(as_protocol(connection))
        connection.connection_made(cast("asyncio.Transport", tls))
        if service.draining:
            connection.await_last_head()
        service.settle()
        tls.data_received(early)  # and what is left of the handshake's last piece

    def eof_received(self) -> bool:
        """Let the transport close: who says goodbye now has nothing to ask."""
        return False

    def pause_writing(self) -> None:
        """A handshake's few bytes need no holding back."""

    def resume_writing(self) -> None:
        """See `pause_writing`."""

    def connection_lost(self, exc: Exception | None) -> None:
        """It has failed, if it had not before."""
        service = self.service
        service.deadlines.forget(self)
        service.handshakes.pop(self, None)
        self._count_failure()
        service.settle()
