"""Who is at the other end of a client connection, by what the connection itself says."""

import asyncio

from proxy.pipeline.exchange import Peer
from proxy.rules.forwarding import TrustedNetworks

UNIX = "unix:"
UNKNOWN = "unknown"  # RFC 7239 §6.2


def peer_of(trusted: TrustedNetworks, transport: asyncio.BaseTransport) -> Peer:
    """Return what the connection itself says."""
    name = transport.get_extra_info("peername")
    local = transport.get_extra_info("sockname")
    if not isinstance(local, tuple):
        return Peer(UNIX, 0, UNIX, 0, b"http", UNIX in trusted)
    if not isinstance(name, tuple):  # reset before anybody looked
        return Peer(UNKNOWN, 0, plain(local[0]), local[1], b"http", False)
    address = plain(name[0])
    return Peer(address, name[1], plain(local[0]), local[1], b"http", address in trusted)


def plain(address: str) -> str:
    """Return an IPv4 address that came through an IPv6 socket as what it is."""
    if address.startswith("::ffff:") and "." in address:
        return address[7:]
    return address.partition("%")[0]
