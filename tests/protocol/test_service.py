"""What the connections of a worker share: room for them, and their end."""

import asyncio

from proxy.protocol.http1 import IDLE_LINGER_S
from proxy.protocol.limits import ClientLimits
from tests.pipeline.bodies import until
from tests.protocol.test_http1 import hello
from tests.protocol.wire import Wire

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


def gone(wire: Wire) -> None:
    wire.connection.connection_lost(None)


async def test_a_worker_without_connections_is_drained_at_once() -> None:
    wire = Wire(hello)
    gone(wire)
    assert await wire.service.drain(0.0)


async def test_draining_lets_the_silent_go_after_a_while_and_waits_for_the_rest() -> None:
    wire = Wire(hello)
    wire.send(GET)
    draining = asyncio.create_task(wire.service.drain(10.0))
    await until(lambda: wire.service.draining)
    assert not wire.transport.closed
    wire.later(IDLE_LINGER_S + 1)
    assert wire.transport.closed
    assert not draining.done()
    gone(wire)
    assert await draining
    wire.service.forget(wire.connection)  # nobody waits any more


async def test_a_request_that_was_on_its_way_when_draining_began_is_answered() -> None:
    wire = Wire(hello)
    wire.send(GET)
    draining = asyncio.create_task(wire.service.drain(10.0))
    await until(lambda: wire.service.draining)
    assert b"\r\nConnection: close\r\n" in wire.send(GET)
    assert wire.transport.eof_written
    wire.connection.eof_received()
    gone(wire)
    assert await draining


async def test_draining_takes_no_longer_than_it_may() -> None:
    wire = Wire(hello)
    wire.send(b"GET / HTTP/1.1\r\n")
    assert not await wire.service.drain(0.001)
    assert not wire.transport.closed
    wire.service.abort_all()
    assert wire.transport.aborted


async def test_one_of_several_connections_going_is_not_the_end() -> None:
    wire = Wire(hello)
    wire.send(b"GET / HTTP/1.1\r\n")
    other = Wire(hello)
    wire.service.connections.add(other.connection)
    draining = asyncio.create_task(wire.service.drain(10.0))
    await asyncio.sleep(0)
    gone(wire)
    await asyncio.sleep(0)
    assert not draining.done()
    wire.service.forget(other.connection)
    assert await draining


async def test_the_connection_that_is_idle_the_longest_makes_room() -> None:
    first = Wire(hello, ClientLimits(worker_connections=2))
    second = Wire(hello)
    second.connection.service = first.service
    first.service.connections.add(second.connection)
    second.send(GET)
    first.send(GET)
    assert first.service.make_room()
    assert second.transport.closed
    assert not first.transport.closed
    assert first.service.make_room()
    assert first.transport.closed
    assert not first.service.make_room()
