"""Accepts client connections, and leads each to the protocol that it is to speak.

accept ──→ Http1
   ├ https_redirect ─────────→ arrival ──→ Http1
   ├ proxy_protocol ─→ preface read ──┬──→ Http1
   └ tls ────────────────→ arrival ───┴──→ handshake ──→ Http1
"""

import asyncio
import logging
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from proxy.errors import BadRequestError
from proxy.pipeline.entrance import OPEN, Entrance
from proxy.pipeline.exchange import Peer
from proxy.protocol.deadlines import NEVER
from proxy.protocol.handshake import Handshake
from proxy.protocol.http1 import IDLE_LINGER_S, Http1, as_protocol
from proxy.protocol.peer import peer_of, plain
from proxy.protocol.socket_file import KEEP_FILE
from proxy.rules.proxy_protocol import Preface, parse

if TYPE_CHECKING:
    from proxy.protocol.service import Service
    from proxy.protocol.tls import Contexts

log = logging.getLogger("proxyd.listener")


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Where connections of a listener are led: through TLS or straight on, and what then holds."""

    contexts: "Contexts | None" = None
    entrance: Entrance = OPEN


async def listen(
    service: "Service",
    sock: socket.socket,
    *,
    backlog: int,
    proxy_protocol: bool = False,
    contexts: "Contexts | None" = None,
    entrance: Entrance = OPEN,
) -> asyncio.Server:
    """Accept connections on a bound socket."""
    loop = service.loop
    door = Door(contexts=contexts, entrance=entrance)

    def accept() -> asyncio.Protocol:
        if proxy_protocol:
            return PrefaceReader(service, door)
        if door.contexts is not None or door.entrance is not OPEN:
            return Arrival(service, door)
        return as_protocol(Http1(service))

    if sock.family == socket.AF_UNIX:
        return await loop.create_unix_server(accept, sock=sock, backlog=backlog, **KEEP_FILE)
    return await loop.create_server(accept, sock=sock, backlog=backlog)


def enter(
    service: "Service", transport: asyncio.Transport, peer: Peer, door: Door, ahead: bytes = b""
) -> None:
    """Let `transport` speak TLS or HTTP from here on; `ahead` was read from it already."""
    peer.entrance = door.entrance
    if door.contexts is not None:
        Handshake(service, peer, door.contexts, transport).begin(ahead)
        return
    connection = Http1(service, peer)
    transport.set_protocol(as_protocol(connection))
    connection.connection_made(transport)
    if service.draining:
        connection.await_last_head()
    if ahead and not transport.is_closing():
        connection.data_received(ahead)


class Arrival(asyncio.Protocol):
    """A connection on its way through the door; nothing is read from it here."""

    __slots__ = ("door", "service")

    def __init__(self, service: "Service", door: Door) -> None:
        self.service = service
        self.door = door

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Hand over."""
        service = self.service
        peer = peer_of(service.site.trusted, transport)
        enter(service, transport, peer, self.door)  # type: ignore[arg-type]


class PrefaceReader(asyncio.Protocol):
    """Reads the PROXY protocol's header, which must come first and from a trusted peer."""

    __slots__ = ("bucket", "buffer", "deadline_at", "door", "peer", "service", "transport")

    peer: Peer
    transport: asyncio.Transport

    def __init__(self, service: "Service", door: Door) -> None:
        self.service = service
        self.door = door
        self.buffer = b""
        self.deadline_at = NEVER
        self.bucket = NEVER

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Refuse whoever is not in `trusted_proxies`."""
        self.transport = transport  # type: ignore[assignment]
        service = self.service
        self.peer = peer_of(service.site.trusted, transport)
        if not self.peer.trusted:
            log.warning(
                "%s is not in trusted_proxies and may not use a listener with proxy_protocol",
                self.peer.address,
            )
            self.transport.abort()
            return
        if not service.make_room():
            self.transport.abort()
            return
        service.prefaces[self] = None
        service.deadlines.set(self, service.loop.time() + service.limits.header_timeout_s)

    def data_received(self, data: bytes) -> None:
        """Collect the header, then hand over with what came behind it."""
        self.buffer += data
        try:
            preface = parse(self.buffer)
        except BadRequestError as error:
            log.warning("no valid PROXY header from %s: %s", self.peer.address, error)
            self.transport.abort()
            return
        if preface is None:
            return
        self.service.deadlines.forget(self)
        self.service.prefaces.pop(self, None)
        peer = self.peer_behind(preface)
        enter(self.service, self.transport, peer, self.door, self.buffer[preface.consumed :])

    def peer_behind(self, preface: Preface) -> Peer:
        """Return the client that the header names; without one, the peer speaks for itself."""
        if preface.source is None or preface.destination is None:
            return self.peer
        address, port = preface.source
        local, local_port = preface.destination
        trusted = address in self.service.site.trusted
        return Peer(plain(address), port, plain(local), local_port, b"http", trusted)

    def on_deadline(self, now: float) -> None:
        """The header did not come."""
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Release the deadline and the place."""
        service = self.service
        service.deadlines.forget(self)
        service.prefaces.pop(self, None)
        service.settle()

    def await_last_head(self) -> None:
        """Close soon, unless a request was on its way already."""
        service = self.service
        at = service.loop.time() + IDLE_LINGER_S
        service.deadlines.set(self, min(self.deadline_at, at))
