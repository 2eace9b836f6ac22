"""Accepts client connections, and reads the PROXY protocol where a listener asks for it.

accept ──→ Http1
   └ proxy_protocol ──→ preface read ──→ Http1
"""

import asyncio
import logging
import socket
import sys
from typing import TYPE_CHECKING, Any

from proxy.errors import BadRequestError
from proxy.pipeline.exchange import Peer
from proxy.protocol.deadlines import NEVER
from proxy.protocol.http1 import Http1
from proxy.protocol.peer import peer_of, plain
from proxy.rules.proxy_protocol import Preface, parse

if TYPE_CHECKING:
    from proxy.protocol.service import Service

log = logging.getLogger("proxyd.listener")

# The socket's file belongs to the master; from 3.13 on a server that closes would remove it.
_KEEP_FILE: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}


async def listen(
    service: "Service", sock: socket.socket, *, proxy_protocol: bool, backlog: int
) -> asyncio.Server:
    """Accept connections on a bound socket."""
    loop = service.loop

    def accept() -> asyncio.Protocol:
        return PrefaceReader(service) if proxy_protocol else Http1(service)

    if sock.family == socket.AF_UNIX:
        return await loop.create_unix_server(accept, sock=sock, backlog=backlog, **_KEEP_FILE)
    return await loop.create_server(accept, sock=sock, backlog=backlog)


def begin_http(service: "Service", transport: asyncio.Transport, peer: Peer) -> Http1:
    """Let `transport` speak HTTP from here on."""
    connection = Http1(service, peer)
    transport.set_protocol(connection)
    connection.connection_made(transport)
    return connection


class PrefaceReader(asyncio.Protocol):
    """Reads the PROXY protocol's header, which must come first and from a trusted peer."""

    __slots__ = ("bucket", "buffer", "deadline_at", "peer", "service", "transport")

    peer: Peer
    transport: asyncio.Transport

    def __init__(self, service: "Service") -> None:
        self.service = service
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
        connection = begin_http(self.service, self.transport, self.peer_behind(preface))
        rest = self.buffer[preface.consumed :]
        if rest and not self.transport.is_closing():
            connection.data_received(rest)

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
        """Nothing to release but the deadline."""
        self.service.deadlines.forget(self)
