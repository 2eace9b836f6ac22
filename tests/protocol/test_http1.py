"""Requests over the wire: bytes in, bytes out, at every chunking. RFC 9112."""

import asyncio
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.message import Response
from proxy.pipeline.exchange import Exchange, Step, Wait
from proxy.pipeline.respond import respond
from proxy.pipeline.site import Route
from proxy.protocol.http1 import IDLE_LINGER_S
from proxy.protocol.limits import ClientLimits
from tests.protocol.wire import Wire

OK = b"HTTP/1.1 200 OK\r\nServer: proxyd\r\n"


def hello(exchange: Exchange) -> Step:
    """Answer with the path."""
    exchange.response = Response(200, [], exchange.request.path)
    return respond


def echo(exchange: Exchange) -> Step | Wait:
    """Answer with the content of the request."""

    async def collect() -> Step:
        body = exchange.request.body
        content = b""
        if body is not None:
            await body.collect()
            async for piece in body:
                content += piece
            await body.close()
        exchange.response = Response(200, [], content)
        return respond

    return Wait(collect())


async def answered(wire: Wire) -> bytes:
    """Return what is written once the tasks that need nobody else have run."""
    for _ in range(20):
        if wire.connection.exchange is None:
            break
        await asyncio.sleep(0)
    return wire.transport.take()


async def test_a_request_is_answered_within_data_received() -> None:
    wire = Wire(hello)
    assert wire.send(b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n") == OK + b"Content-Length: 2\r\n\r\n/a"
    assert not wire.transport.closed
    assert wire.log.lines == [(b"/a", 200)]


async def test_pipelined_requests_are_answered_in_order() -> None:
    wire = Wire(hello)
    out = wire.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % n for n in range(5)))
    assert [part[-2:] for part in out.split(b"HTTP/1.1 200 OK")[1:]] == [
        b"/%d" % n for n in range(5)
    ]


async def test_a_pipelined_request_waits_for_the_one_before_it() -> None:
    wire = Wire(echo)
    assert (
        wire.send(
            b"POST /1 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"
            b"POST /2 HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\ndef"
        )
        == b""
    )
    await answered(wire)
    assert [line[0] for line in wire.log.lines] == [b"/1", b"/2"]


STREAM = (
    b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n"
    b"POST /b HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello"
    b"\r\nPOST /c HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nA: b\r\n\r\n"
    b"HEAD /d HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
)
ANSWERS = (
    OK + b"Content-Length: 0\r\n\r\n"
    + OK + b"Content-Length: 5\r\n\r\nhello"
    + OK + b"Content-Length: 5\r\n\r\nabcde"
    + OK + b"Content-Length: 0\r\nConnection: close\r\n\r\n"
)  # fmt: skip


@pytest.mark.parametrize("size", [1, 2, 3, 5, 7, 64, 1000])
async def test_the_answers_do_not_depend_on_how_the_bytes_come(size: int) -> None:
    wire = Wire(echo)
    out = b""
    for start in range(0, len(STREAM), size):
        out += wire.send(STREAM[start : start + size])
        out += await answered(wire)
    assert out == ANSWERS
    assert wire.transport.closed


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(1, len(STREAM) - 1), max_size=8))
def test_any_chunking_gives_the_same_answers(cuts: list[int]) -> None:
    async def drive() -> bytes:
        wire = Wire(echo)
        out = b""
        edges = [0, *sorted(set(cuts)), len(STREAM)]
        for start, end in pairwise(edges):
            out += wire.send(STREAM[start:end])
            out += await answered(wire)
        return out

    assert asyncio.run(drive()) == ANSWERS


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: \x00\r\n\r\n", 400),
        (b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /\r\n", 400),  # HTTP/0.9
        (b"\x16\x03\x01\x02\x00", 400),  # TLS on a plain port
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 405),
        (b"TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
         400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -3\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET /" + b"a" * 8200 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET /" + b"a" * 8300, 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"b" * 33000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"b" * 33000, 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 101 + b"\r\n", 431),
    ],
)  # fmt: skip
async def test_what_is_wrong_gets_a_clear_status_and_a_closed_connection(
    request_bytes: bytes, status: int
) -> None:
    wire = Wire(hello)
    out = wire.send(request_bytes)
    assert out.startswith(b"HTTP/1.1 %d " % status)
    if not request_bytes.startswith(b"TRACE"):
        assert b"\r\nConnection: close\r\n" in out
        assert wire.transport.eof_written
    again = wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    assert bool(again) == request_bytes.startswith(b"TRACE")


@pytest.mark.parametrize(
    "content",
    [
        b"zz\r\nabc\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"-3\r\nabc\r\n0\r\n\r\n",
        b"3\nabc\r\n0\r\n\r\n",
        b"3;" + b"a" * 5000,
        b"0\r\n" + b"A: " + b"b" * 9000,
    ],
)
async def test_a_malformed_chunk_is_a_400_and_closes(content: bytes) -> None:
    wire = Wire(echo)
    out = wire.send(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n" + content)
    out += await answered(wire)
    assert out.startswith(b"HTTP/1.1 400 ")
    assert wire.transport.eof_written


async def test_a_client_that_waits_for_100_gets_it_once_its_content_is_wanted() -> None:
    wire = Wire(echo)
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    assert wire.send(head) == b""
    await asyncio.sleep(0)
    assert wire.transport.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
    wire.send(b"ab")
    assert (await answered(wire)).endswith(b"\r\n\r\nab")
    assert not wire.transport.closed


async def test_a_client_that_waits_for_100_gets_the_refusal_instead() -> None:
    wire = Wire(hello)
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    out = wire.send(head)
    assert out.startswith(b"HTTP/1.1 200")
    assert b"Connection: close" in out


async def test_another_expectation_is_a_417() -> None:
    wire = Wire(hello)
    out = wire.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: tea\r\n\r\nab")
    assert out.startswith(b"HTTP/1.1 417 ")


async def test_content_that_nobody_wanted_does_not_cost_the_connection_when_it_is_small() -> None:
    wire = Wire(hello)
    out = wire.send(b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab")
    assert out.startswith(b"HTTP/1.1 200")
    assert b"close" not in out
    assert wire.send(b"cdeGET /b HTTP/1.1\r\nHost: h\r\n\r\n").endswith(b"/b")


async def test_content_over_the_limit_is_a_413_that_a_client_still_sending_can_read() -> None:
    wire = Wire(echo)
    wire.route.body_limit = 10
    out = wire.send(b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 70000\r\n\r\n" + b"a" * 1000)
    assert out.startswith(b"HTTP/1.1 413 ")
    assert wire.transport.eof_written
    assert not wire.transport.closed
    wire.send(b"a" * 1000)
    assert not wire.transport.closed
    wire.later(7)
    assert wire.transport.closed


async def test_chunked_content_over_the_limit_is_a_413_too() -> None:
    wire = Wire(echo)
    wire.route.body_limit = 10
    wire.send(b"POST /a HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    wire.send(b"6\r\nabcdef\r\n6\r\nabcdef\r\n")
    assert (await answered(wire)).startswith(b"HTTP/1.1 413 ")
    assert wire.transport.eof_written


@pytest.mark.parametrize(
    ("request_head", "line", "closed"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", b"Connection: close", True),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", b"Connection: keep-alive", False),
        (b"GET / HTTP/1.1\r\nHost: h\r\nConnection: x, Close\r\n\r\n", b"Connection: close", True),
    ],
)
async def test_the_connection_lives_as_long_as_the_client_asked(
    request_head: bytes, line: bytes, closed: bool
) -> None:
    wire = Wire(hello)
    assert line in wire.send(request_head)
    assert wire.transport.closed == closed


@pytest.mark.parametrize("target", [b"*", b"http://h"])
async def test_options_asterisk_is_about_the_server(target: bytes) -> None:
    out = Wire(hello).send(b"OPTIONS %b HTTP/1.1\r\nHost: h\r\n\r\n" % target)
    assert out.startswith(b"HTTP/1.1 204 No Content\r\n")
    assert b"Content-Length" not in out


async def test_an_absolute_target_is_understood() -> None:
    out = Wire(hello).send(b"GET http://h/x?y HTTP/1.1\r\nHost: other\r\n\r\n")
    assert out.endswith(b"\r\n\r\n/x")


@pytest.mark.parametrize("method", [b"PURGE", b"PROPFIND", b"get", b"X!"])
async def test_any_method_reaches_the_steps(method: bytes) -> None:
    assert Wire(hello).send(b"%b / HTTP/1.1\r\nHost: h\r\n\r\n" % method).startswith(OK)


async def test_a_head_that_does_not_come_is_a_408() -> None:
    wire = Wire(hello)
    wire.send(b"GET / HTTP/1.1\r\n")
    assert wire.later(19) == b""
    assert wire.later(22).startswith(b"HTTP/1.1 408 ")


async def test_a_head_that_trickles_is_a_408_all_the_same() -> None:
    wire = Wire(hello)
    for _ in range(10):
        wire.send(b"G")
    assert wire.later(22).startswith(b"HTTP/1.1 408 ")


async def test_a_connection_that_sends_nothing_is_closed_without_a_word() -> None:
    wire = Wire(hello)
    assert wire.later(22) == b""
    assert wire.transport.closed


async def test_an_idle_connection_is_closed_at_its_time() -> None:
    wire = Wire(hello)
    wire.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    wire.later(70)
    assert not wire.transport.closed
    wire.later(77)
    assert wire.transport.closed


async def test_content_that_stalls_is_a_408() -> None:
    wire = Wire(echo)
    wire.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\na")
    wire.later(62)
    assert (await answered(wire)).startswith(b"HTTP/1.1 408 ")
    assert wire.transport.eof_written


async def test_a_client_that_leaves_in_the_middle_is_logged_as_such() -> None:
    wire = Wire(echo)
    wire.send(b"POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\na")
    wire.transport.closed = True
    wire.connection.connection_lost(None)
    await answered(wire)
    assert wire.log.lines == [(b"/x", 499)]
    assert not wire.service.connections


async def test_a_reader_that_takes_nothing_is_given_up() -> None:
    wire = Wire(hello)
    wire.transport.unsent = 100_000
    wire.connection.pause_writing()
    wire.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert wire.log.lines == []
    wire.later(61)
    assert wire.transport.aborted


async def test_a_reader_that_takes_something_is_waited_for() -> None:
    wire = Wire(hello)
    wire.transport.unsent = 100_000
    wire.connection.pause_writing()
    wire.transport.unsent = 50_000
    wire.later(61)
    assert not wire.transport.aborted
    wire.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    wire.transport.unsent = 0
    wire.connection.resume_writing()
    assert wire.transport.take().endswith(b"\r\n\r\n/")


async def test_what_is_read_ahead_is_bounded() -> None:
    wire = Wire(echo, ClientLimits(pipeline_bytes=1000))
    wire.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\na" + b"G" * 500)
    assert wire.transport.reading
    wire.send(b"G" * 600)
    assert not wire.transport.reading


async def test_past_the_limit_of_connections_the_longest_idle_one_goes() -> None:
    wire = Wire(hello, ClientLimits(worker_connections=1))
    wire.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    second = Wire(hello)
    second.connection.service = wire.service
    second.connection.connection_made(second.transport)
    assert wire.transport.closed
    assert not second.transport.closed


async def test_an_unforeseen_error_is_a_500_without_details() -> None:
    def broken(exchange: Exchange) -> Step:
        raise ZeroDivisionError("secret")

    out = Wire(broken).send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert out.startswith(b"HTTP/1.1 500 ")
    assert b"secret" not in out


async def test_an_error_page_is_json_for_who_asks_for_json() -> None:
    wire = Wire(hello)
    out = wire.send(b"TRACE / HTTP/1.1\r\nHost: h\r\nAccept: application/json\r\n\r\n")
    assert b"Content-Type: application/json\r\n" in out
    assert b'"status": 405' in out


@pytest.mark.parametrize("target", [b"/%40adm/a", b"/%40adm%2Fa", b"/x/..%2F%40adm/a"])
async def test_escapes_are_no_way_around_a_route(target: bytes) -> None:
    def other(exchange: Exchange) -> Step:
        raise AssertionError("the request passed the route by")

    wire = Wire(hello)
    wire.site.routes = (Route("guarded", hello, b"/@adm/*"), Route("rest", other))
    assert wire.send(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % target).startswith(OK)


async def test_a_flood_of_pipelined_requests_leaves_the_loop_to_others() -> None:
    wire = Wire(hello)
    wire.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 100)
    assert 0 < len(wire.log.lines) < 100
    assert not wire.transport.reading
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(wire.log.lines) == 100
    assert wire.transport.reading


async def test_a_flood_ends_with_its_connection() -> None:
    wire = Wire(hello)
    wire.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n" * 100)
    answered_before = len(wire.log.lines)
    wire.transport.close()
    wire.connection.connection_lost(None)
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(wire.log.lines) == answered_before


async def test_content_that_is_malformed_from_the_start_is_a_400_on_every_route() -> None:
    wire = Wire(hello)
    out = wire.send(b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
    assert out.startswith(b"HTTP/1.1 400 ")


async def test_a_connection_that_never_said_a_word_does_not_hold_up_a_graceful_stop() -> None:
    wire = Wire(hello)
    draining = asyncio.ensure_future(wire.service.drain(60))
    await asyncio.sleep(0)
    wire.later(IDLE_LINGER_S + 1)
    assert wire.transport.closed
    wire.connection.connection_lost(None)
    assert await draining
