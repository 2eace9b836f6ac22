"""Bytes both ways after an upgrade: half-close, slow readers, every way to end. RFC 9110 §7.8."""

import asyncio
import socket
from typing import cast

import pytest

from proxy.errors import ClientGoneError
from proxy.message import NO_LENGTH, Response
from proxy.pipeline.exchange import Exchange, Step, Wait
from proxy.pipeline.finish import finish
from proxy.protocol.tunnel import End, Tunnel
from tests.pipeline.bodies import until
from tests.protocol.test_http1 import answered
from tests.protocol.wire import FakeTransport, Wire

ASK = b"GET /chat HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: chat\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: chat\r\nConnection: upgrade\r\n\r\n"


class Upgraded:
    """A client connection that has become a tunnel to `upstream`."""

    def __init__(self, early: bytes = b"", *, dated: bool = False) -> None:
        self.upstream = FakeTransport()
        self.upstream.reading = False
        self.response = Response(101, [(b"Upgrade", b"chat")], content_length=NO_LENGTH)
        self.response.dated = dated
        self.early = early
        self.wire = Wire(self.step)
        self.client = self.wire.transport

    def step(self, exchange: Exchange) -> Wait:
        async def switch() -> Step:
            exchange.response = self.response
            await exchange.sink.tunnel(self.response, self.upstream, self.early)
            return finish

        return Wait(switch())

    async def open(self, ahead: bytes = b"") -> "Upgraded":
        self.wire.send(ASK + ahead)
        await asyncio.sleep(0)
        return self

    @property
    def client_end(self) -> End:
        assert isinstance(self.client.protocol, End)
        return self.client.protocol

    @property
    def upstream_end(self) -> End:
        assert isinstance(self.upstream.protocol, End)
        return self.upstream.protocol

    @property
    def over(self) -> bool:
        return bool(self.wire.log.lines)

    async def assert_over(self) -> None:
        await answered(self.wire)
        assert self.wire.log.lines == [(b"/chat", 101)]
        assert not self.wire.service.connections
        assert not self.wire.service.idle


async def test_what_came_ahead_goes_first_and_then_whatever_comes() -> None:
    up = await Upgraded(b"early").open(b"ahead")
    assert up.client.take() == SWITCHED + b"early"
    assert up.upstream.take() == b"ahead"
    assert up.client.reading
    assert up.upstream.reading
    up.client_end.data_received(b"ping")
    up.upstream_end.data_received(b"pong")
    assert up.upstream.take() == b"ping"
    assert up.client.take() == b"pong"


async def test_the_date_of_the_upstream_stays() -> None:
    up = await Upgraded(dated=True).open()
    assert up.client.written == SWITCHED


@pytest.mark.parametrize("client_first", [True, False])
async def test_where_a_half_close_cannot_be_passed_on_the_end_is(client_first: bool) -> None:
    """Over TLS: or who waits for the end of a WebSocket would wait until somebody gives up."""
    up = await Upgraded().open()
    ends = [up.client_end, up.upstream_end]
    if not client_first:
        ends.reverse()
    first, second = ends
    second.transport.can_write_eof = lambda: False  # type: ignore[method-assign]
    first.data_received(b"last")
    assert not first.eof_received()
    assert cast("FakeTransport", second.transport).closed
    assert cast("FakeTransport", second.transport).written.endswith(b"last")
    second.connection_lost(None)
    first.connection_lost(None)
    await up.assert_over()


@pytest.mark.parametrize("client_first", [True, False])
async def test_a_half_close_is_passed_on_and_the_other_direction_stays_open(
    client_first: bool,
) -> None:
    up = await Upgraded().open()
    ends = [up.client_end, up.upstream_end]
    first, second = ends if client_first else ends[::-1]
    assert first.eof_received()
    assert second.transport.eof_written  # type: ignore[attr-defined]
    second.data_received(b"still here")
    assert first.transport.written.endswith(b"still here")  # type: ignore[attr-defined]
    assert not second.eof_received()
    assert first.transport.is_closing()
    second.connection_lost(None)
    assert not up.over
    first.connection_lost(None)
    await up.assert_over()


@pytest.mark.parametrize("client_first", [True, False])
async def test_when_one_side_is_lost_the_other_is_closed(client_first: bool) -> None:
    up = await Upgraded().open()
    ends = [up.client_end, up.upstream_end]
    first, second = ends if client_first else ends[::-1]
    first.transport.abort()
    first.connection_lost(ConnectionResetError())
    assert second.transport.is_closing()
    await asyncio.sleep(0)
    assert not up.over
    second.connection_lost(None)
    await up.assert_over()


async def test_a_half_close_to_a_side_that_is_closing_is_not_passed_on() -> None:
    up = await Upgraded().open()
    up.upstream.close()
    assert up.client_end.eof_received()
    assert not up.upstream.eof_written


async def test_a_slow_reader_holds_the_other_side_back() -> None:
    up = await Upgraded().open()
    up.client_end.pause_writing()
    assert not up.upstream.reading
    assert up.client.reading
    up.client_end.resume_writing()
    assert up.upstream.reading


async def test_a_client_that_is_slow_already_holds_the_upstream_back_from_the_start() -> None:
    up = Upgraded()
    up.wire.send(ASK)
    up.wire.connection.sink.pause()
    await asyncio.sleep(0)
    assert not up.upstream.reading
    up.client_end.resume_writing()
    assert up.upstream.reading


async def test_who_catches_up_behind_the_end_of_the_other_side_starts_nothing() -> None:
    up = await Upgraded().open()
    up.client_end.pause_writing()
    up.upstream_end.eof_received()
    up.client_end.resume_writing()
    assert not up.upstream.reading
    up.upstream.reading = True
    up.upstream_end.gone = True
    up.client_end.pause_writing()
    assert up.upstream.reading


async def test_a_tunnel_on_which_nothing_moves_is_ended() -> None:
    up = await Upgraded().open()
    up.wire.later(3590)
    assert not up.client.closed
    up.wire.later(3602)
    assert up.client.aborted
    assert up.upstream.aborted


async def test_what_moves_keeps_the_tunnel_open() -> None:
    up = await Upgraded().open()
    up.client_end.data_received(b"x")
    tunnel = up.client_end.tunnel
    assert tunnel.deadline_at > up.wire.service.loop.time() + 3599
    assert (tunnel.sent, tunnel.received) == (0, 1)


async def test_a_side_that_does_not_take_its_rest_is_ended_too() -> None:
    up = await Upgraded().open()
    up.upstream_end.connection_lost(None)
    assert up.client.closed
    assert not up.client.aborted
    up.wire.later(3602)
    assert up.client.aborted
    up.client_end.connection_lost(None)
    await up.assert_over()


async def test_a_client_that_left_before_its_upgrade_frees_the_upstream() -> None:
    up = Upgraded()
    up.wire.send(ASK)
    up.client.closed = True
    await answered(up.wire)
    assert up.upstream.aborted
    assert up.wire.log.lines == [(b"/chat", 499)]


async def test_the_end_of_the_worker_ends_both_sides() -> None:
    up = await Upgraded().open()
    exchange = up.wire.connection.exchange
    assert exchange is not None
    assert exchange.task is not None
    exchange.task.cancel()
    await answered(up.wire)
    assert up.client.closed
    assert up.upstream.closed
    up.client_end.connection_lost(None)
    up.upstream_end.connection_lost(None)  # nobody waits for it any more


async def test_a_tunnel_that_never_joined_has_nothing_to_end() -> None:
    wire = Wire(Upgraded().step)
    tunnel = Tunnel(wire.service, 10.0)
    tunnel.close()
    tunnel.on_deadline(0.0)
    with pytest.raises(ClientGoneError):
        await wire.connection.sink.tunnel(Upgraded().response, FakeTransport(), b"")


class Noted(asyncio.Protocol):
    """The far end of a real socket."""

    def __init__(self) -> None:
        self.received = 0
        self.lost = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.received += len(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)


async def pair() -> tuple[asyncio.Transport, Noted]:
    """Return a transport whose reading is paused, and what is at its other end."""
    loop = asyncio.get_running_loop()
    one, other = socket.socketpair()
    near, _ = await loop.create_unix_connection(asyncio.Protocol, sock=one)
    _, far = await loop.create_unix_connection(Noted, sock=other)
    near.pause_reading()
    return near, far


async def test_what_an_upstream_says_early_is_held_back_by_a_client_that_does_not_read() -> None:
    tunnel = Tunnel(Wire(Upgraded().step).service, 10.0)
    client, browser = await pair()
    upstream, server = await pair()
    browser.transport.pause_reading()
    tunnel.join(client, upstream, b"", b"x" * 4_000_000)
    await asyncio.sleep(0)
    assert not upstream.is_reading()
    browser.transport.resume_reading()
    await until(lambda: browser.received == 4_000_000)
    assert upstream.is_reading()
    server.transport.write(b"end")
    server.transport.close()
    await until(lambda: browser.received == 4_000_003)
    browser.transport.close()
    await tunnel.closed
    await asyncio.gather(browser.lost, server.lost)
