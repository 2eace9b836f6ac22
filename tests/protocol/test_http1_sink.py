"""Answers on the wire: heads, framing, streams, and what breaks them. RFC 9112 §4, §6, §7."""

import asyncio

import pytest

from proxy.errors import ClientGoneError, HttpError
from proxy.message import NO_LENGTH, Consumer, Fields, Response, Source
from proxy.pipeline.exchange import Exchange, Step
from proxy.pipeline.respond import respond
from proxy.protocol.http1_sink import encode_head
from tests.pipeline.bodies import Pushed
from tests.protocol.test_http1 import OK, answered
from tests.protocol.wire import Wire

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
GET_1_0 = b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
HEAD = b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"


def answering(body: bytes | Source | None, status: int = 200) -> Wire:
    def step(exchange: Exchange) -> Step:
        exchange.response = Response(status, [], body)
        return respond

    return Wire(step)


def whole(consumer: Consumer) -> None:
    consumer.feed(b"abc")
    consumer.finish(None)


@pytest.mark.parametrize(
    ("response", "lines"),
    [
        (Response(200, []), [b"HTTP/1.1 200 OK", b"Content-Length: 0"]),
        (Response(200, [], b"ab"), [b"HTTP/1.1 200 OK", b"Content-Length: 2"]),
        (Response(200, [], Pushed(7)), [b"HTTP/1.1 200 OK", b"Content-Length: 7"]),
        (Response(200, [], Pushed()), [b"HTTP/1.1 200 OK"]),
        (Response(200, [], content_length=9), [b"HTTP/1.1 200 OK", b"Content-Length: 9"]),
        (Response(200, [], content_length=NO_LENGTH), [b"HTTP/1.1 200 OK"]),
        (Response(204, []), [b"HTTP/1.1 204 No Content"]),
        (Response(204, [], content_length=0), [b"HTTP/1.1 204 No Content"]),  # RFC 9110 §8.6
        (Response(304, []), [b"HTTP/1.1 304 Not Modified"]),
        (Response(304, [], content_length=5), [b"HTTP/1.1 304 Not Modified", b"Content-Length: 5"]),
        (Response(299, [], reason=b"Fine"), [b"HTTP/1.1 299 Fine", b"Content-Length: 0"]),
        (Response(999, [(b"A", b"b")]), [b"HTTP/1.1 999 ", b"A: b", b"Content-Length: 0"]),
    ],
)
def test_a_head_says_how_long_the_content_is(response: Response, lines: list[bytes]) -> None:
    assert encode_head(response, b"").split(b"\r\n")[:-1] == lines


async def test_content_of_known_length_goes_out_as_it_comes() -> None:
    source = Pushed(5)
    wire = answering(source)
    assert wire.send(GET) == OK + b"Content-Length: 5\r\n\r\n"
    source.to.feed(b"ab")
    assert wire.transport.take() == b"ab"
    source.to.feed(b"cde")
    source.to.finish(None)
    assert await answered(wire) == b"cde"
    assert not wire.transport.closed
    assert wire.log.lines == [(b"/", 200)]


@pytest.mark.parametrize("size", [1, 16 * 1024, 16 * 1024 + 1, 300_000])
async def test_content_of_unknown_length_is_chunked(size: int) -> None:
    source = Pushed()
    wire = answering(source)
    assert wire.send(GET) == OK + CHUNKED
    source.to.feed(b"x" * size)
    assert wire.transport.take() == b"%x\r\n%b\r\n" % (size, b"x" * size)
    source.to.finish(Fields([(b"A", b"b")]))
    assert await answered(wire) == b"0\r\nA: b\r\n\r\n"
    assert not wire.transport.closed


async def test_an_http_1_0_client_learns_the_end_of_unknown_length_from_the_end() -> None:
    source = Pushed()
    wire = answering(source)
    assert wire.send(GET_1_0) == OK + b"Connection: close\r\n\r\n"
    source.to.feed(b"abc")
    source.to.finish(Fields([(b"A", b"b")]))
    assert await answered(wire) == b"abc"
    assert wire.transport.closed
    assert not wire.transport.aborted


@pytest.mark.parametrize("size", [0, 16 * 1024, 16 * 1024 + 1])
async def test_content_in_memory_goes_out_with_its_head(size: int) -> None:
    out = answering(b"x" * size).send(GET)
    assert out == OK + b"Content-Length: %d\r\n\r\n" % size + b"x" * size


@pytest.mark.parametrize(
    ("request_bytes", "status", "head"),
    [
        (HEAD, 200, OK + b"Content-Length: 3\r\n\r\n"),
        (GET, 204, b"HTTP/1.1 204 No Content\r\nServer: proxyd\r\n\r\n"),
        (GET, 304, b"HTTP/1.1 304 Not Modified\r\nServer: proxyd\r\n\r\n"),
    ],
)
@pytest.mark.parametrize("streamed", [True, False])
async def test_what_has_no_content_gets_none(
    request_bytes: bytes, status: int, head: bytes, streamed: bool
) -> None:
    source = Pushed(3, whole)
    wire = answering(source if streamed else b"abc", status)
    assert wire.send(request_bytes) == head
    assert source.consumer is None
    assert source.cancelled == streamed
    assert not wire.transport.closed


async def test_head_of_what_has_no_known_length_says_nothing_of_it() -> None:
    assert answering(Pushed()).send(HEAD) == OK + b"\r\n"


@pytest.mark.parametrize("length", [3, None])
async def test_a_source_that_ends_within_its_start_needs_no_task(length: int | None) -> None:
    wire = answering(Pushed(length, whole))
    out = wire.send(GET + GET)
    content = b"abc" if length else b"3\r\nabc\r\n0\r\n\r\n"
    assert out.count(b"\r\n\r\n" + content) == 2
    assert wire.log.lines == [(b"/", 200)] * 2


def breaking(consumer: Consumer) -> None:
    consumer.feed(b"ab")
    consumer.abort(HttpError("no more"))


async def test_a_source_that_aborts_within_its_start_breaks_the_connection() -> None:
    wire = answering(Pushed(5, breaking))
    assert wire.send(GET + GET) == OK + b"Content-Length: 5\r\n\r\nab"
    assert wire.transport.closed
    assert wire.log.lines == [(b"/", 200)]


# Whether the end of the connection would be that of a body, so that it has to be a reset.
every_framing = pytest.mark.parametrize(
    ("request_bytes", "length", "aborted"),
    [(GET, 5, False), (GET, None, False), (GET_1_0, 5, False), (GET_1_0, None, True)],
)


@every_framing
async def test_a_body_that_is_given_up_with_its_client_s_side_never_looks_complete(
    request_bytes: bytes, length: int | None, aborted: bool
) -> None:
    """Who has shut its sending side may still be reading."""
    source = Pushed(length)

    def step(exchange: Exchange) -> Step:
        exchange.upstream_name = "demo"
        exchange.response = Response(200, [], source)
        return respond

    wire = Wire(step)
    wire.send(request_bytes)
    source.to.feed(b"ab")
    assert not wire.connection.eof_received()  # upon which the transport closes
    assert not (await answered(wire)).endswith(b"0\r\n\r\n")
    assert wire.transport.aborted == aborted


@every_framing
async def test_a_body_that_breaks_off_never_looks_complete(
    request_bytes: bytes, length: int | None, aborted: bool
) -> None:
    source = Pushed(length)
    wire = answering(source)
    wire.send(request_bytes)
    source.to.feed(b"ab")
    source.to.abort(HttpError("no more"))
    assert not (await answered(wire)).endswith(b"0\r\n\r\n")
    assert wire.transport.closed
    assert wire.transport.aborted == aborted
    assert not wire.service.idle


async def test_a_body_that_is_longer_than_it_said_is_cut_off() -> None:
    source = Pushed(3)
    wire = answering(source)
    wire.send(GET)
    source.to.feed(b"abcd")
    assert await answered(wire) == b""
    assert source.cancelled
    assert wire.transport.closed


async def test_a_body_that_is_shorter_than_it_said_breaks_the_connection() -> None:
    source = Pushed(3)
    wire = answering(source)
    wire.send(GET)
    source.to.feed(b"ab")
    source.to.finish(None)
    assert await answered(wire) == b"ab"
    assert wire.transport.closed


async def test_a_body_that_is_longer_than_it_said_within_its_start_is_cut_off() -> None:
    def too_long(consumer: Consumer) -> None:
        consumer.feed(b"abcd")

    source = Pushed(3, too_long)
    wire = answering(source)
    assert wire.send(GET) == OK + b"Content-Length: 3\r\n\r\n"
    assert source.cancelled
    assert wire.transport.closed


async def test_a_slow_reader_holds_the_source_back() -> None:
    source = Pushed()
    wire = answering(source)
    wire.send(GET)
    wire.connection.pause_writing()
    assert source.paused
    wire.connection.resume_writing()
    assert not source.paused


async def test_a_reader_that_is_slow_before_the_answer_holds_the_source_back_as_well() -> None:
    source = Pushed()

    def step(exchange: Exchange) -> Step:
        wire.connection.pause_writing()  # by a 103, say
        exchange.response = Response(200, [], source)
        return respond

    wire = Wire(step)
    wire.send(GET)
    assert source.paused


async def test_a_client_that_leaves_while_its_answer_streams_ends_the_source() -> None:
    source = Pushed()
    wire = answering(source)
    wire.send(GET)
    wire.transport.closed = True
    wire.connection.connection_lost(None)
    assert source.cancelled
    await answered(wire)
    assert wire.log.lines == [(b"/", 200)]


async def test_a_response_that_cannot_be_encoded_is_a_500() -> None:
    def step(exchange: Exchange) -> Step:
        exchange.response = Response(200, [("A", "b")])  # type: ignore[list-item]
        return respond

    wire = Wire(step)
    assert wire.send(GET).startswith(b"HTTP/1.1 500 ")
    assert wire.log.lines == [(b"/", 500)]


async def test_interim_responses_go_before_the_final_one() -> None:
    def step(exchange: Exchange) -> Step:
        exchange.sink.inform(103, [(b"Link", b"</a.css>")])
        exchange.response = Response(200, [])
        return respond

    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
    assert Wire(step).send(GET) == hints + OK + b"Content-Length: 0\r\n\r\n"
    assert Wire(step).send(GET_1_0).startswith(OK)


async def test_interim_responses_never_go_behind_the_final_one() -> None:
    wire = answering(Pushed())
    wire.send(GET)
    wire.connection.sink.inform(103, [])
    assert wire.transport.take() == b""


async def test_interim_responses_to_who_has_left_go_nowhere() -> None:
    def step(exchange: Exchange) -> Step:
        wire.transport.closed = True
        exchange.sink.inform(103, [])
        raise ClientGoneError

    wire = Wire(step)
    assert wire.send(GET) == b""
    wire.connection.sink.inform(103, [])  # and those that come behind the end as well
    assert wire.log.lines == [(b"/", 499)]


async def test_a_worker_that_drains_says_that_the_connection_ends() -> None:
    wire = answering(b"")
    wire.service.draining = True
    assert b"\r\nConnection: close\r\n" in wire.send(GET)
    assert wire.transport.eof_written  # and the client is heard out: its next one may be under way


async def test_the_date_of_the_origin_is_kept() -> None:
    def step(exchange: Exchange) -> Step:
        exchange.response = Response(200, [(b"Date", b"yesterday")])
        exchange.response.dated = True
        return respond

    wire = Wire(step)
    wire.connection.data_received(GET)
    assert wire.transport.written.count(b"Date: ") == 1
    assert b"Date: yesterday\r\n" in wire.transport.written


async def test_a_body_that_ends_while_nobody_waits_for_it_is_complete() -> None:
    source = Pushed()
    wire = answering(source)
    wire.send(GET)  # the task that waits has not run yet
    source.to.finish(None)
    assert await answered(wire) == b"0\r\n\r\n"
    assert not wire.transport.closed


async def test_a_body_that_broke_off_while_nobody_waited_for_it_is_not_complete() -> None:
    source = Pushed()
    wire = answering(source)
    wire.send(GET)
    source.to.abort(OSError())
    assert await answered(wire) == b""
    assert wire.transport.closed


async def test_the_end_of_the_worker_breaks_an_answer_that_streams() -> None:
    source = Pushed(5)
    wire = answering(source)
    wire.send(GET)
    await asyncio.sleep(0)
    exchange = wire.connection.exchange
    assert exchange is not None
    assert exchange.task is not None
    exchange.task.cancel()
    await answered(wire)
    assert source.cancelled
    assert wire.transport.closed
