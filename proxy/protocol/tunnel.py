"""Bytes both ways between a client and an upstream, after an upgrade. RFC 9110 §7.8.

Half-close is passed on where it can be, a slow reader holds back the other side's writer, and a
tunnel on which nothing moves is ended.
"""

import asyncio
from typing import TYPE_CHECKING

from proxy.protocol.deadlines import NEVER

if TYPE_CHECKING:
    from proxy.protocol.service import Service


class Tunnel:
    """Two ends and the time since something moved."""

    __slots__ = ("bucket", "closed", "deadline_at", "ends", "idle_s", "received", "sent", "service")

    def __init__(self, service: "Service", idle_s: float) -> None:
        self.service = service
        self.idle_s = idle_s
        self.deadline_at = NEVER
        self.bucket = NEVER
        self.closed: asyncio.Future[None] = service.loop.create_future()
        self.ends: tuple[End, End] | None = None
        self.sent = 0  # bytes to the client
        self.received = 0

    def join(
        self, client: asyncio.Transport, upstream: asyncio.Transport, ahead: bytes, early: bytes
    ) -> None:
        """Take both transports, whose reading is paused, and let the bytes flow.

        `ahead` is what the client has sent already, `early` the upstream.
        """
        one, other = End(self, client), End(self, upstream)
        one.peer, other.peer = other, one
        self.ends = (one, other)
        for end in self.ends:
            end.transport.set_protocol(end)
        for end in self.ends:
            end.transport.resume_reading()
        self.moved()
        for end, held in ((one, ahead), (other, early)):
            if held:
                end.data_received(held)

    def moved(self) -> None:
        """Something passed; the idle time begins anew."""
        self.service.deadlines.set(self, self.service.loop.time() + self.idle_s)

    def on_deadline(self, now: float) -> None:
        """Nothing has moved for too long: who has not read its rest by now will not do it."""
        for end in self.ends or ():
            end.transport.abort()

    def close(self) -> None:
        """End both sides; what they hold is still sent."""
        for end in self.ends or ():
            end.transport.close()

    def lost(self, end: "End") -> None:
        """One side is gone, so the other goes too, once it has all that was meant for it."""
        if not end.peer.gone:
            end.peer.transport.close()
            return
        self.service.deadlines.forget(self)
        if not self.closed.done():
            self.closed.set_result(None)


class End(asyncio.Protocol):
    """One side of a tunnel: what it reads, its peer writes."""

    __slots__ = ("eof", "gone", "peer", "transport", "tunnel")

    peer: "End"

    def __init__(self, tunnel: Tunnel, transport: asyncio.Transport) -> None:
        self.tunnel = tunnel
        self.transport = transport
        self.eof = False
        self.gone = False

    def data_received(self, data: bytes) -> None:
        """Pass it on."""
        tunnel = self.tunnel
        if tunnel.ends is not None and tunnel.ends[0] is self:
            tunnel.received += len(data)
        else:
            tunnel.sent += len(data)
        tunnel.moved()
        self.peer.transport.write(data)

    def eof_received(self) -> bool:
        """Pass on the half-close; keep the other direction open, unless the other side has TLS.

        Its end cannot be half an end (see `TlsTransport.can_write_eof`).
        """
        self.eof = True
        peer = self.peer
        if peer.eof or not peer.transport.can_write_eof():
            peer.transport.close()
            return False
        if not peer.transport.is_closing():
            peer.transport.write_eof()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """End the other side as well."""
        self.gone = True
        self.tunnel.lost(self)

    def pause_writing(self) -> None:
        """This side reads slowly: the other one shall write less."""
        if not self.peer.gone:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        """This side has caught up."""
        if not self.peer.gone and not self.peer.eof:
            self.peer.transport.resume_reading()
