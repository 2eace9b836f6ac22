"""Real listeners, and the PROXY protocol in front of HTTP."""

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

import pytest

from proxy.message import Response
from proxy.pipeline.exchange import Exchange, Step
from proxy.pipeline.respond import respond
from proxy.protocol.http1 import Http1
from proxy.protocol.limits import ClientLimits
from proxy.protocol.listener import Door, PrefaceReader, listen
from proxy.rules.forwarding import TrustedNetworks
from tests.protocol.wire import FakeTransport, Wire

GET = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
PREFACE = b"PROXY TCP4 198.51.100.7 192.0.2.80 5000 443\r\n"


def who(exchange: Exchange) -> Step:
    """Answer with who asks."""
    peer = exchange.peer
    said = f"{peer.address} {peer.port} {peer.local_address} {peer.local_port} {peer.trusted}"
    exchange.response = Response(200, [], said.encode())
    return respond


class Named(FakeTransport):
    def __init__(self, address: str) -> None:
        super().__init__()
        self._extra = {"peername": (address, 4000), "sockname": ("192.0.2.80", 80)}


class Reading:
    """A connection to a listener with proxy_protocol, from `address`."""

    def __init__(self, address: str = "10.0.0.1", limits: ClientLimits | None = None) -> None:
        self.wire = Wire(who, limits)
        self.service = self.wire.service
        self.service.site.trusted = TrustedNetworks(("10.0.0.0/8",))
        self.service.forget(self.wire.connection)
        self.transport = Named(address)
        self.reader = PrefaceReader(self.service, Door())
        self.reader.connection_made(self.transport)

    def says(self, *pieces: bytes) -> bytes:
        for piece in pieces:
            protocol = self.transport.protocol or self.reader
            assert isinstance(protocol, PrefaceReader | Http1)
            protocol.data_received(piece)
        return self.transport.take()


def content(out: bytes) -> bytes:
    return out.partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize(
    "pieces",
    [
        [PREFACE + GET],
        [PREFACE, GET],
        [PREFACE[:10], PREFACE[10:] + GET[:5], GET[5:]],
        [bytes((octet,)) for octet in PREFACE + GET],
    ],
)
async def test_the_client_is_who_the_preface_names(pieces: list[bytes]) -> None:
    reading = Reading()
    assert content(reading.says(*pieces)) == b"198.51.100.7 5000 192.0.2.80 443 False"
    assert reading.reader.deadline_at == float("inf")


async def test_a_client_behind_the_preface_may_be_trusted_itself() -> None:
    out = Reading().says(b"PROXY TCP4 10.2.3.4 192.0.2.80 5000 443\r\n" + GET)
    assert content(out) == b"10.2.3.4 5000 192.0.2.80 443 True"


async def test_a_preface_that_names_nobody_leaves_the_peer() -> None:
    out = Reading().says(b"PROXY UNKNOWN\r\n" + GET)
    assert content(out) == b"10.0.0.1 4000 192.0.2.80 80 True"


async def test_who_is_not_trusted_may_not_say_who_it_is(caplog: pytest.LogCaptureFixture) -> None:
    reading = Reading("192.0.2.9")
    assert reading.transport.aborted
    assert "192.0.2.9 is not in trusted_proxies" in caplog.text
    reading.reader.connection_lost(None)


async def test_what_is_no_preface_ends_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    reading = Reading()
    assert reading.says(GET) == b""
    assert reading.transport.aborted
    assert "no valid PROXY header from 10.0.0.1" in caplog.text


async def test_a_preface_that_does_not_come_ends_the_connection() -> None:
    reading = Reading()
    reading.says(PREFACE[:5])
    reading.service.deadlines.sweep(reading.service.loop.time() + 22)
    assert reading.transport.aborted


async def test_who_leaves_before_its_preface_is_forgotten() -> None:
    reading = Reading()
    reading.reader.connection_lost(None)
    assert reading.reader.bucket == float("inf")


async def test_a_request_behind_a_preface_is_not_carried_out_when_there_is_no_room() -> None:
    reading = Reading(limits=ClientLimits(worker_connections=0))
    assert reading.says(PREFACE + GET) == b""
    assert reading.transport.aborted
    assert not reading.wire.log.lines


@pytest.mark.parametrize("proxy_protocol", [True, False])
async def test_a_tcp_listener_answers(proxy_protocol: bool) -> None:
    wire = Wire(who)
    wire.site.trusted = TrustedNetworks(("127.0.0.0/8",))
    sock = socket.create_server(("127.0.0.1", 0))
    server = await listen(wire.service, sock, proxy_protocol=proxy_protocol, backlog=10)
    reader, writer = await asyncio.open_connection(*sock.getsockname())
    port = writer.get_extra_info("sockname")[1]
    writer.write(PREFACE + GET if proxy_protocol else GET)
    said = content(await reader.read()).decode()
    local = sock.getsockname()[1]
    expected = f"127.0.0.1 {port} 127.0.0.1 {local} True"
    assert said == ("198.51.100.7 5000 192.0.2.80 443 False" if proxy_protocol else expected)
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a folder whose path leaves room for a socket's name."""
    made = Path(mkdtemp(prefix="pd-", dir="/tmp"))
    yield made
    rmtree(made)


async def test_a_unix_listener_answers(folder: Path) -> None:
    wire = Wire(who)
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(folder / "s"))
    sock.setblocking(False)
    server = await listen(wire.service, sock, proxy_protocol=False, backlog=10)
    reader, writer = await asyncio.open_unix_connection(str(folder / "s"))
    writer.write(GET)
    assert content(await reader.read()) == b"unix: 0 unix: 0 False"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_who_has_not_said_who_it_is_counts_as_a_connection() -> None:
    first = Reading(limits=ClientLimits(worker_connections=1))
    service = first.service
    second = PrefaceReader(service, Door())
    transport = Named("10.0.0.1")
    second.connection_made(transport)
    assert transport.aborted
    assert content(first.says(PREFACE + GET)) == b"198.51.100.7 5000 192.0.2.80 443 False"
    assert not service.prefaces


async def test_a_request_behind_a_preface_is_answered_while_the_worker_drains() -> None:
    reading = Reading()
    reading.says(PREFACE[:10])
    draining = asyncio.ensure_future(reading.service.drain(5))
    await asyncio.sleep(0)
    assert not draining.done()
    out = reading.says(PREFACE[10:], GET)
    assert content(out) == b"198.51.100.7 5000 192.0.2.80 443 False"
    assert b"Connection: close" in out
    protocol = reading.transport.protocol
    assert isinstance(protocol, PrefaceReader | Http1)
    protocol.connection_lost(None)
    assert await draining


async def test_a_silent_preface_does_not_hold_the_end_up() -> None:
    reading = Reading()
    draining = asyncio.ensure_future(reading.service.drain(5))
    await asyncio.sleep(0)
    reading.service.deadlines.sweep(reading.service.loop.time() + 3)
    assert reading.transport.aborted
    reading.reader.connection_lost(None)
    assert await draining


async def test_the_end_of_all_connections_is_that_of_prefaces() -> None:
    reading = Reading()
    reading.service.abort_all()
    assert reading.transport.aborted
