"""How connections end, by whose will it may be: nothing is leaked, nothing answered twice."""

import asyncio

import pytest

from proxy.message import Consumer, Response
from proxy.pipeline.exchange import Exchange, Step, Wait
from proxy.pipeline.respond import respond
from proxy.protocol.http1 import IDLE_LINGER_S
from proxy.protocol.limits import ClientLimits
from tests.pipeline.bodies import Pushed, until
from tests.protocol.test_http1 import OK, answered, echo, hello
from tests.protocol.wire import Wire

GET = b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"


def streaming(source: Pushed) -> Step:
    """Answer with `source`."""

    def step(exchange: Exchange) -> Step:
        exchange.response = Response(200, [], source)
        return respond

    return step


def later(go_on: asyncio.Event, response: Response) -> Step:
    """Answer once `go_on` is set, whoever leaves meanwhile."""

    def step(exchange: Exchange) -> Wait:
        async def wait() -> Step:
            await go_on.wait()
            exchange.response = response
            return respond

        return Wait(wait())

    return step


def lose(wire: Wire) -> None:
    """End the connection as the event loop does when the client has gone."""
    wire.transport.closed = True
    wire.connection.connection_lost(None)


def assert_forgotten(wire: Wire) -> None:
    assert not wire.service.connections
    assert not wire.service.idle
    assert wire.connection.deadline_at == float("inf")


async def test_a_client_that_left_in_the_middle_is_not_kept_among_the_idle() -> None:
    wire = Wire(echo)
    wire.send(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\na")
    lose(wire)
    await answered(wire)
    assert wire.log.lines == [(b"/x", 499)]
    assert_forgotten(wire)


async def test_a_client_that_left_while_it_was_slow_is_not_watched_any_more() -> None:
    source = Pushed()
    wire = Wire(streaming(source))
    wire.send(GET)
    wire.transport.unsent = 100_000
    wire.connection.pause_writing()
    wire.transport.unsent = 0
    lose(wire)
    await answered(wire)
    assert source.cancelled
    assert_forgotten(wire)


async def test_a_request_behind_the_last_one_is_not_carried_out() -> None:
    asked = []

    def note(exchange: Exchange) -> Step:
        asked.append(exchange.request.path)
        return hello(exchange)

    wire = Wire(note)
    wire.send(b"GET /1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" + GET)
    assert asked == [b"/1"]
    assert wire.transport.closed


async def test_a_request_behind_the_last_one_does_not_begin_when_the_reader_catches_up() -> None:
    wire = Wire(hello)
    wire.transport.unsent = 100_000
    wire.send(b"GET /1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n" + GET)
    wire.connection.pause_writing()
    wire.transport.unsent = 0
    wire.connection.resume_writing()
    assert [target for target, _ in wire.log.lines] == [b"/1"]
    assert not wire.service.idle


@pytest.mark.parametrize("status", [200, 404])
async def test_malformed_content_that_nobody_reads_ends_the_connection(status: int) -> None:
    def step(exchange: Exchange) -> Step:
        exchange.response = Response(status, [], b"x")
        return respond

    wire = Wire(step)
    out = wire.send(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    assert out.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nConnection: close\r\n" in out
    assert wire.send(b"zz\r\n" + GET) == b""
    assert len(wire.log.lines) == 1


async def test_content_that_stalls_while_the_answer_streams_is_not_taken_for_a_request() -> None:
    source = Pushed()
    wire = Wire(streaming(source))
    out = wire.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 90\r\n\r\n")
    assert b"close" not in out  # the rest was so sure to come
    wire.later(62)
    wire.send(b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n")
    source.to.feed(b"x")
    source.to.finish(None)
    await answered(wire)
    assert wire.log.lines == [(b"/", 200)]
    assert wire.transport.eof_written


async def test_a_client_that_asks_and_never_reads_is_held_back() -> None:
    wire = Wire(hello, ClientLimits(pipeline_bytes=1000))
    wire.transport.unsent = 100_000
    wire.connection.pause_writing()
    for _ in range(100):
        if wire.transport.reading:
            wire.send(GET)
    assert len(wire.connection.buffer) <= 1000 + len(GET)
    wire.connection.resume_writing()
    for _ in range(5):
        await asyncio.sleep(0)
    assert wire.transport.reading
    assert len(wire.log.lines) == 1000 // len(GET) + 1


async def test_reading_goes_on_only_when_the_client_reads() -> None:
    wire = Wire(hello, ClientLimits(pipeline_bytes=10))
    wire.connection.pause_writing()
    wire.send(GET)
    wire.connection.next_request()
    assert not wire.transport.reading


async def test_very_many_empty_lines_cost_next_to_nothing() -> None:
    wire = Wire(hello)
    assert wire.send(b"\r\n" * 2_000_000 + GET) == OK + b"Content-Length: 2\r\n\r\n/a"


async def test_an_answer_begun_before_the_worker_drains_leaves_time_for_one_more() -> None:
    source = Pushed()
    wire = Wire(streaming(source))
    assert b"close" not in wire.send(GET)
    draining = asyncio.create_task(wire.service.drain(10))
    await asyncio.sleep(0)
    source.to.finish(None)
    await until(lambda: wire.connection.exchange is None)
    assert not wire.transport.closed
    wire.later(IDLE_LINGER_S + 1)
    assert wire.transport.closed
    lose(wire)
    assert await draining


async def test_a_pipelined_request_is_still_answered_while_the_worker_drains() -> None:
    source = Pushed()
    wire = Wire(streaming(source))
    wire.send(GET + b"HEAD /b HTTP/1.1\r\nHost: h\r\n\r\n")
    wire.service.draining = True
    source.to.finish(None)
    assert b"Connection: close" in await answered(wire)
    assert wire.transport.eof_written
    assert wire.log.lines == [(b"/a", 200), (b"/b", 200)]


async def test_a_client_that_has_shut_its_side_gets_its_answer_and_the_end() -> None:
    source = Pushed(length=1)
    wire = Wire(streaming(source))
    wire.send(GET)
    assert wire.connection.eof_received()
    source.to.feed(b"x")
    source.to.finish(None)
    assert await answered(wire) == b"x"
    assert wire.transport.closed


async def test_a_client_that_shuts_its_side_while_idle_is_let_go() -> None:
    wire = Wire(hello)
    wire.send(GET)
    assert not wire.connection.eof_received()


async def test_a_client_that_shuts_its_side_while_it_sends_has_left() -> None:
    wire = Wire(echo)
    wire.send(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\na")
    assert not wire.connection.eof_received()
    lose(wire)
    await answered(wire)
    assert wire.log.lines == [(b"/x", 499)]
    assert_forgotten(wire)


async def test_a_client_that_leaves_an_upstream_waiting_ends_the_exchange_once() -> None:
    cancelled = []
    cleaned = asyncio.Event()

    def step(exchange: Exchange) -> Wait:
        exchange.upstream_name = "demo"

        async def work() -> Step:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(1)
                try:
                    for _ in range(5):
                        await asyncio.sleep(0)
                    cleaned.set()
                except asyncio.CancelledError:
                    cancelled.append(2)
                raise
            return respond

        return Wait(work())

    wire = Wire(step)
    wire.send(GET)
    await asyncio.sleep(0)
    assert not wire.connection.eof_received()
    await asyncio.sleep(0)
    lose(wire)
    await answered(wire)
    assert cancelled == [1]
    assert cleaned.is_set()
    assert wire.log.lines == [(b"/a", 499)]


async def test_an_answer_that_comes_too_late_gives_its_source_back() -> None:
    source = Pushed()
    go_on = asyncio.Event()
    wire = Wire(later(go_on, Response(200, [], source)))
    wire.send(GET)
    await asyncio.sleep(0)
    go_on.set()
    wire.transport.closed = True  # connection_lost has not been called yet
    await until(lambda: wire.log.lines)
    assert source.cancelled
    assert wire.log.lines == [(b"/a", 499)]


def raising(consumer: Consumer) -> None:
    raise OSError("no such thing")


async def test_a_source_that_fails_to_start_breaks_the_connection() -> None:
    source = Pushed(length=5, on_start=raising)
    wire = Wire(streaming(source))
    out = wire.send(GET + GET)
    assert out == OK + b"Content-Length: 5\r\n\r\n"
    assert wire.transport.closed
    assert source.cancelled
    assert len(wire.log.lines) == 1


async def test_a_broken_answer_does_not_wait_for_a_reader_that_reads_nothing() -> None:
    source = Pushed(length=5)
    wire = Wire(streaming(source))
    wire.send(GET)
    wire.transport.unsent = 1000
    source.to.abort(OSError())
    await answered(wire)
    assert wire.transport.closed
    assert not wire.transport.aborted
    wire.later(62)
    assert wire.transport.aborted


async def test_a_lingering_client_may_take_its_time_to_read_as_long_as_it_reads() -> None:
    wire = Wire(hello)
    wire.transport.unsent = 5000
    wire.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 70000\r\n\r\n")
    assert wire.transport.eof_written
    wire.later(7)
    assert wire.transport.closed
    wire.transport.unsent = 1000
    wire.later(70)
    assert not wire.transport.aborted
    wire.later(140)
    assert wire.transport.aborted


async def test_a_lingering_client_that_catches_up_is_not_idle() -> None:
    wire = Wire(hello)
    wire.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 70000\r\n\r\n")
    wire.connection.pause_writing()
    wire.connection.resume_writing()
    assert not wire.service.idle


async def test_a_lingering_client_is_not_heard_for_ever() -> None:
    wire = Wire(hello)
    wire.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 90000000\r\n\r\n")
    for _ in range(17):
        wire.send(b"a" * 1024 * 1024)
    assert wire.transport.aborted


async def test_an_idle_reader_that_has_not_taken_everything_gets_time_to_do_so() -> None:
    source = Pushed()
    wire = Wire(streaming(source))
    wire.send(GET)
    wire.transport.unsent = 100_000
    wire.connection.pause_writing()
    source.to.feed(b"x" * 200_000)
    wire.connection.resume_writing()
    source.to.finish(None)
    await answered(wire)
    wire.transport.unsent = 30_000
    wire.later(77)
    assert not wire.transport.aborted
    wire.later(150)
    assert wire.transport.aborted


async def test_an_answer_that_is_read_slowly_is_not_given_up() -> None:
    source = Pushed()
    wire = Wire(streaming(source))
    wire.send(GET)
    source.to.feed(b"x" * 100_000)
    wire.transport.unsent = 100_000
    wire.connection.pause_writing()
    assert source.paused
    source.to.feed(b"x" * 1000)
    wire.transport.unsent = 100_000
    wire.later(62)
    assert not wire.transport.aborted
    wire.later(124)
    assert wire.transport.aborted


async def test_a_deadline_in_the_middle_of_an_exchange_means_nothing() -> None:
    source = Pushed()
    wire = Wire(streaming(source))
    wire.send(GET)
    wire.connection.pause_writing()
    wire.connection.resume_writing()
    wire.later(62)
    assert not wire.transport.closed


async def test_content_that_stalls_behind_its_answer_ends_the_connection() -> None:
    wire = Wire(hello)
    wire.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\na")
    wire.later(62)
    assert wire.transport.closed
    assert len(wire.log.lines) == 1


async def test_an_answer_waits_while_the_one_before_it_is_read() -> None:
    source = Pushed()
    wire = Wire(streaming(source))
    wire.send(GET + GET)
    wire.connection.pause_writing()
    source.to.finish(None)
    await answered(wire)
    assert len(wire.log.lines) == 1
    wire.transport.unsent = 1
    wire.later(62)
    wire.later(124)
    assert wire.transport.aborted


async def test_past_the_limit_of_busy_connections_the_new_one_is_refused() -> None:
    wire = Wire(streaming(Pushed()), ClientLimits(worker_connections=1))
    wire.send(GET)
    second = Wire(hello)
    second.connection.service = wire.service
    second.connection.connection_made(second.transport)
    assert second.transport.aborted
    second.connection.connection_lost(None)
    assert list(wire.service.connections) == [wire.connection]


async def test_abort_ends_a_connection_whatever_it_does() -> None:
    wire = Wire(streaming(Pushed()))
    wire.send(GET)
    wire.service.abort_all()
    assert wire.transport.aborted


async def test_reading_is_not_touched_on_a_transport_that_closes() -> None:
    wire = Wire(hello)
    wire.transport.closed = True
    wire.connection.pause_reading()
    assert wire.transport.reading


async def test_what_was_asked_before_a_half_close_is_answered_when_the_client_reads() -> None:
    wire = Wire(hello)
    wire.send(GET)
    wire.connection.pause_writing()
    wire.send(GET + GET[:7])
    assert wire.connection.eof_received()
    assert not wire.transport.written
    wire.connection.resume_writing()
    assert wire.transport.written.count(b"HTTP/1.1 200 ") == 1
    assert wire.transport.closed
