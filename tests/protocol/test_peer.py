"""Who is at the other end, by what the connection itself says."""

import asyncio

import pytest

from proxy.protocol.peer import peer_of, plain
from proxy.rules.forwarding import TrustedNetworks


class Named(asyncio.BaseTransport):
    def __init__(self, peer: object, local: object) -> None:
        super().__init__({"peername": peer, "sockname": local})


@pytest.mark.parametrize(
    ("peer", "local", "address", "port", "trusted"),
    [
        (("192.0.2.1", 4000), ("192.0.2.80", 80), "192.0.2.1", 4000, False),
        (("10.0.0.1", 4000), ("192.0.2.80", 80), "10.0.0.1", 4000, True),
        (("::ffff:10.0.0.1", 4000, 0, 0), ("::ffff:192.0.2.80", 80, 0, 0), "10.0.0.1", 4000, True),
        (("fe80::1%eth0", 4000, 0, 2), ("::1", 80, 0, 0), "fe80::1", 4000, False),
        ("", "/run/proxyd.sock", "unix:", 0, True),
        (None, "/run/proxyd.sock", "unix:", 0, True),
        (None, ("192.0.2.80", 80), "unknown", 0, False),  # it is not a unix socket that is trusted
    ],
)
def test_a_peer_is_who_the_connection_says(
    peer: object, local: object, address: str, port: int, trusted: bool
) -> None:
    networks = TrustedNetworks(("10.0.0.0/8", "unix:"))
    found = peer_of(networks, Named(peer, local))
    assert (found.address, found.port, found.trusted) == (address, port, trusted)
    assert found.scheme == b"http"
    if isinstance(local, tuple):
        assert (found.local_address, found.local_port) == (plain(local[0]), 80)


@pytest.mark.parametrize("address", ["::ffff:abcd", "2001:db8::1", "192.0.2.1"])
def test_an_address_that_is_plain_stays(address: str) -> None:
    assert plain(address) == address
