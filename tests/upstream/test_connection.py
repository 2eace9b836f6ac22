"""The wire towards an upstream: bytes in, events out, with a fake transport."""

import asyncio
import socket
from collections.abc import Callable
from itertools import pairwise
from math import inf
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.errors import (
    NoAnswerError,
    StaleConnectionError,
    UpstreamError,
    UpstreamTimeoutError,
)
from proxy.message import FieldLine, Fields
from proxy.rules.health import EjectionRules, Health
from proxy.upstream.answer import AwaitedAnswer
from proxy.upstream.connection import UpstreamConnection
from proxy.upstream.options import GroupOptions
from proxy.upstream.response import ResponseBody, UpstreamResponse

OPTIONS = GroupOptions(response_header_bytes=512)


class FakeTransport(asyncio.Transport):
    """Records what is written and whether reading is paused."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.reading = True
        self.aborted = False
        self.unsent = 0
        self.socket: socket.socket | None = None

    def write(self, data: "bytes | bytearray | memoryview[int]") -> None:
        self.written += bytes(data)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def abort(self) -> None:
        self.aborted = True

    def get_extra_info(self, name: str, default: object = None) -> object:
        return self.socket if name == "socket" else default


class FakePool:
    """Counts what comes back."""

    def __init__(self) -> None:
        self.idle = 0
        self.lost = 0
        self.health = Health(EjectionRules())
        self.failures = 0

    def answered(self) -> None:
        self.health.succeeded(0)

    def failed(self, error: Exception) -> None:
        self.failures += 1

    def released(self, connection: UpstreamConnection) -> None:
        self.idle += 1

    def detached(self, transport: asyncio.BaseTransport) -> None:
        pass

    def dropped(self, connection: UpstreamConnection) -> None:
        self.lost += 1


class Sink:
    """Keeps a body and how it ended; `then` is called after each piece."""

    def __init__(self, then: Callable[[], None] | None = None) -> None:
        self.pieces: list[bytes] = []
        self.ended = ""
        self.trailers: Fields | None = None
        self.error: Exception | None = None
        self._then = then

    @property
    def data(self) -> bytes:
        return b"".join(self.pieces)

    def feed(self, data: bytes) -> None:
        assert data
        assert not self.ended
        self.pieces.append(data)
        if self._then is not None:
            self._then()

    def finish(self, trailers: Fields | None) -> None:
        assert not self.ended
        self.ended, self.trailers = "finish", trailers

    def abort(self, error: Exception) -> None:
        assert not self.ended
        self.ended, self.error = "abort", error


class Wire:
    """A connection between a fake transport and a fake pool, and one exchange on it."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop | None = None, options: GroupOptions = OPTIONS
    ) -> None:
        self.loop = loop or asyncio.get_running_loop()
        self.pool = FakePool()
        self.transport = FakeTransport()
        self.interims: list[tuple[int, list[FieldLine]]] = []
        self.connection = UpstreamConnection("upstream demo (a:1)", self.pool, options, self.loop)
        self.connection.connection_made(self.transport)

    def ask(
        self, method: bytes = b"GET", more: bool = False, upgrade: bool = False
    ) -> AwaitedAnswer:
        answer = AwaitedAnswer(
            lambda status, lines: self.interims.append((status, lines)), loop=self.loop
        )
        self.connection.begin(answer, method, upgrade)
        self.connection.send(method + b" / HTTP/1.1\r\n\r\n", more)
        return answer

    def get(self, *reads: bytes) -> AwaitedAnswer:
        answer = self.ask()
        for data in reads:
            self.connection.data_received(data)
        return answer


def body_of(response: UpstreamResponse) -> ResponseBody:
    assert isinstance(response.body, ResponseBody)
    return response.body


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"


async def test_a_small_answer_is_whole_and_the_connection_is_idle_at_once() -> None:
    wire = Wire()
    answer = wire.get(OK + b"hello")
    response = answer.result()
    assert (response.status, response.reason, response.minor_version) == (200, b"OK", 1)
    assert response.fields.lines == [(b"Content-Length", b"5")]
    assert response.body == b"hello"
    assert response.trailers is None
    assert wire.transport.written == b"GET / HTTP/1.1\r\n\r\n"
    assert (wire.pool.idle, wire.pool.lost) == (1, 0)
    assert wire.connection.reused


async def test_one_connection_serves_one_request_after_the_other() -> None:
    wire = Wire()
    for _ in range(3):
        assert wire.get(OK + b"hello").result().body == b"hello"
    assert (wire.pool.idle, wire.pool.lost) == (3, 0)


async def test_a_chunked_answer_that_came_at_once_is_whole_with_its_trailers() -> None:
    wire = Wire()
    response = wire.get(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nfoo\r\n3\r\nbar\r\n0\r\nDigest: x\r\n\r\n"
    ).result()
    assert response.body == b"foobar"
    assert response.trailers == Fields([(b"Digest", b"x")])
    assert wire.pool.idle == 1


@pytest.mark.parametrize(
    ("method", "head", "body"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", None),
        (b"HEAD", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", None),
        (b"HEAD", b"HTTP/1.1 200 OK\r\n\r\n", None),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", None),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", None),
        (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
        (b"GET", b"HTTP/1.1 999\r\nContent-Length: 0\r\n\r\n", b""),
    ],
)
async def test_an_answer_without_a_body_ends_with_its_head(
    method: bytes, head: bytes, body: bytes | None
) -> None:
    # RFC 9112 §6.3
    wire = Wire()
    answer = wire.ask(method)
    wire.connection.data_received(head)
    assert answer.result().body == body
    assert wire.pool.idle == 1


# What an upstream sends before it closes, and what its reader must see of it: status, body, end.
STREAMS: list[tuple[bytes, tuple[int, bytes, str], int]] = [
    (OK + b"hello", (200, b"hello", "finish"), 1),
    (
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"
        + OK
        + b"hello",
        (200, b"hello", "finish"),
        1,
    ),
    (
        b"HTTP/1.1 404 Not Found\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"1\r\na\r\n5;x=y\r\nbcdef\r\n0\r\nA: b\r\n\r\n",
        (404, b"abcdef", "finish"),
        1,
    ),
    (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", (200, b"until the end", "finish"), 0),
    (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nab", (200, b"ab", "finish"), 0),
    (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nab",
        (200, b"ab", "finish"),
        1,
    ),
    (
        b"HTTP/1.1 200 OK\r\nConnection: Close, x\r\nContent-Length: 2\r\n\r\nab",
        (200, b"ab", "finish"),
        0,
    ),
    # broken off: in the body, in a chunk, before the last chunk, in the trailers
    (OK + b"hell", (200, b"hell", "abort"), 0),
    (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        (200, b"ab", "abort"),
        0,
    ),
    (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n",
        (200, b"ab", "abort"),
        0,
    ),
    (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nA: b\r\n",
        (200, b"ab", "abort"),
        0,
    ),
]


def replay(
    loop: asyncio.AbstractEventLoop, stream: bytes, cuts: list[int]
) -> tuple[Wire, tuple[int, bytes, str]]:
    """Feed `stream` cut at `cuts`, then its end; return what the caller saw."""
    wire = Wire(loop)
    answer = wire.ask()
    sink = Sink()
    started = False
    edges = [0, *sorted({cut % (len(stream) + 1) for cut in cuts}), len(stream)]
    for begin, end in pairwise(edges):
        if begin < end:
            wire.connection.data_received(stream[begin:end])
        if answer.done() and not started and isinstance(answer.result().body, ResponseBody):
            started = True
            body_of(answer.result()).start(sink)
    if not wire.pool.lost:
        wire.connection.eof_received()
    response = answer.result()
    if not started:
        assert isinstance(response.body, bytes)
        return wire, (response.status, response.body, "finish")
    return wire, (response.status, sink.data, sink.ended)


@pytest.mark.parametrize(("stream", "events", "idle"), STREAMS)
@given(cuts=st.lists(st.integers(0, 300), max_size=8))
@settings(max_examples=30, deadline=None)
def test_any_chunking_gives_the_same_events(
    stream: bytes, events: tuple[int, bytes, str], idle: int, cuts: list[int]
) -> None:
    loop = asyncio.new_event_loop()
    try:
        wire, seen = replay(loop, stream, cuts)
        assert seen == events
        assert wire.pool.idle == idle
        assert wire.pool.lost == 1
    finally:
        loop.close()


@pytest.mark.parametrize(("stream", "events", "idle"), STREAMS)
async def test_a_stream_of_single_bytes_gives_the_same_events(
    stream: bytes, events: tuple[int, bytes, str], idle: int
) -> None:
    wire, seen = replay(asyncio.get_running_loop(), stream, list(range(len(stream))))
    assert (seen, wire.pool.idle) == (events, idle)


async def test_interim_answers_are_given_on_and_do_not_end_the_exchange() -> None:
    wire = Wire()
    answer = wire.get(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
    assert wire.interims == [(103, [(b"Link", b"</a>")])]
    assert not answer.done()
    wire.connection.data_received(OK + b"hello")
    assert answer.result().status == 200


async def test_a_hundred_interim_answers_are_enough() -> None:
    wire = Wire()
    answer = wire.get(b"HTTP/1.1 102 Processing\r\n\r\n" * 101)
    with pytest.raises(UpstreamError, match="101 interim"):
        answer.result()
    assert len(wire.interims) == 100
    assert wire.transport.aborted


async def test_an_exchange_given_up_inside_an_interim_answer_ends_there() -> None:
    wire = Wire()
    answer = AwaitedAnswer(lambda *_: wire.connection.give_up(answer))
    wire.connection.begin(answer, b"GET")
    wire.connection.send(b"x")
    wire.connection.data_received(b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK + b"hello")
    assert not answer.done()
    assert wire.connection.closed


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "begins with b'S"),
        (b"HTTP/2.0 200 OK\r\n\r\n", "bad response"),
        (b"HTTP/1.1 20 OK\r\n\r\n", "malformed status line"),
        (b"HTTP/1.1 200 OK\n", "no request head contains"),
        (b"HTTP/1.1 200 OK\r\nA : b\r\n\r\n", "malformed field lines"),
        (b"HTTP/1.1 200 OK\r\nA: b\x00", "no request head contains"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "bad response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "bad response"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "bad response",
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "only chunked"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "bad response"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"b" * 600, "more than 512 bytes"),
        (b"HTTP/1.1 200 OK\r\nA: " + b"b" * 600 + b"\r\n\r\n", "more than 512 bytes"),
    ],
)
@pytest.mark.parametrize("step", [1, 7, 1000])
async def test_what_is_not_http_is_an_error_and_the_end(data: bytes, words: str, step: int) -> None:
    wire = Wire()
    answer = wire.ask()
    sink = Sink()
    for begin in range(0, len(data), step):
        wire.connection.data_received(data[begin : begin + step])
        if wire.connection.closed:
            break
        if answer.done():
            body_of(answer.result()).start(sink)
    error = sink.error if sink.ended else answer.exception()
    assert isinstance(error, UpstreamError)
    assert not isinstance(error, StaleConnectionError)
    assert words in str(error)
    assert "upstream demo (a:1)" in str(error)
    assert wire.transport.aborted
    assert (wire.pool.idle, wire.pool.lost) == (0, 1)


@pytest.mark.parametrize("extra", [b"x", OK + b"hello", b"HTTP/1.1 408 Request Timeout\r\n\r\n"])
async def test_bytes_behind_an_answer_cost_the_connection_and_not_the_answer(extra: bytes) -> None:
    wire = Wire()
    assert wire.get(OK + b"hello" + extra).result().body == b"hello"
    assert (wire.pool.idle, wire.pool.lost) == (0, 1)


async def test_bytes_behind_a_streamed_answer_cost_the_connection_as_well() -> None:
    wire = Wire()
    answer = wire.get(OK + b"he")
    sink = Sink()
    body_of(answer.result()).start(sink)
    wire.connection.data_received(b"llo" + OK)
    assert (sink.data, sink.ended) == (b"hello", "finish")
    assert (wire.pool.idle, wire.pool.lost) == (0, 1)


async def test_bytes_that_nobody_asked_for_close_an_idle_connection() -> None:
    wire = Wire()
    wire.get(OK + b"hello")
    wire.connection.data_received(OK + b"other")
    assert wire.connection.closed
    assert (wire.pool.idle, wire.pool.lost) == (1, 1)


async def test_an_answer_before_the_end_of_the_request_costs_the_connection() -> None:
    wire = Wire()
    answer = wire.ask(b"POST", more=True)
    wire.connection.data_received(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
    assert answer.result().status == 413
    assert not await wire.connection.writable()
    wire.connection.send(b"the rest")
    assert b"the rest" not in wire.transport.written
    assert (wire.pool.idle, wire.pool.lost) == (0, 1)


async def test_an_answer_before_the_request_left_the_buffer_costs_the_connection() -> None:
    wire = Wire()
    answer = wire.ask(b"POST")
    wire.transport.unsent = 10
    wire.connection.data_received(OK + b"hello")
    assert answer.result().status == 200
    assert (wire.pool.idle, wire.pool.lost) == (0, 1)


async def test_a_request_that_ends_during_its_answer_keeps_the_connection() -> None:
    wire = Wire()
    answer = wire.ask(b"POST", more=True)
    wire.connection.data_received(OK)
    sink = Sink()
    body_of(answer.result()).start(sink)
    wire.connection.send(b"", more=False)
    wire.connection.data_received(b"hello")
    assert sink.ended == "finish"
    assert wire.pool.idle == 1


async def test_a_reused_connection_that_closes_without_a_byte_is_stale() -> None:
    wire = Wire()
    wire.get(OK + b"hello")
    answer = wire.ask()
    wire.connection.eof_received()
    with pytest.raises(StaleConnectionError, match="without an answer"):
        answer.result()


async def test_a_new_connection_that_closes_without_a_byte_is_not_stale() -> None:
    wire = Wire()
    answer = wire.ask()
    wire.connection.eof_received()
    assert type(answer.exception()) is NoAnswerError


async def test_a_reused_connection_that_closes_in_a_head_is_not_stale() -> None:
    wire = Wire()
    wire.get(OK + b"hello")
    answer = wire.get(b"HTTP/1.1 20")
    wire.connection.eof_received()
    assert type(answer.exception()) is NoAnswerError


async def test_a_head_waits_for_the_first_byte_of_its_content() -> None:
    wire = Wire()
    answer = wire.get(OK)
    assert not answer.done()
    wire.connection.data_received(b"he")
    sink = Sink()
    body_of(answer.result()).start(sink)
    wire.connection.data_received(b"llo")
    assert (sink.data, sink.ended, wire.pool.idle) == (b"hello", "finish", 1)


async def test_a_head_waits_for_its_content_for_a_moment_only() -> None:
    wire = Wire()
    sink = Sink()
    body_of(await wire.get(OK)).start(sink)
    assert (sink.data, sink.ended) == (b"", "")
    wire.connection.data_received(b"hello")
    assert (sink.data, sink.ended, wire.pool.idle) == (b"hello", "finish", 1)


async def test_an_end_between_a_head_and_its_content_is_no_answer() -> None:
    wire = Wire()
    answer = wire.get(OK)
    wire.connection.eof_received()
    assert type(answer.exception()) is NoAnswerError


async def test_a_head_that_names_a_file_does_not_wait_for_content() -> None:
    wire = Wire()
    answer = wire.get(OK.replace(b"\r\n\r\n", b"\r\nX-Sendfile: /a\r\n\r\n"))
    assert answer.done()


async def test_a_request_on_a_connection_that_is_already_closed_is_stale() -> None:
    wire = Wire()
    wire.get(OK + b"hello")
    wire.connection.eof_received()
    answer = wire.ask()
    assert isinstance(answer.exception(), StaleConnectionError)
    assert wire.pool.lost == 1


async def test_a_reset_says_what_the_system_said() -> None:
    wire = Wire()
    answer = wire.get(OK + b"he")
    sink = Sink()
    body_of(answer.result()).start(sink)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        wire.transport.socket = ours
        wire.connection.connection_lost(ConnectionResetError(104, "Connection reset by peer"))
    assert "Connection reset by peer" in str(sink.error)


async def test_an_answer_left_in_the_socket_is_read_and_the_connection_not_offered_again() -> None:
    wire = Wire()
    answer = wire.ask(b"POST")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        wire.transport.socket = ours
        theirs.send(OK + b"hello")
        theirs.close()
        wire.connection.connection_lost(BrokenPipeError(32, "Broken pipe"))
    assert answer.result().body == b"hello"
    assert (wire.pool.idle, wire.pool.lost) == (0, 1)


@pytest.mark.parametrize(
    "error", [BrokenPipeError(32, "Broken pipe"), ConnectionResetError(104, "reset")]
)
async def test_an_end_in_the_same_read_as_the_head_is_none_of_an_answer(error: OSError) -> None:
    wire = Wire()
    answer = wire.ask()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        wire.transport.socket = ours
        theirs.send(OK)
        theirs.close()
        wire.connection.connection_lost(error)
    with pytest.raises(NoAnswerError, match="behind the head of its answer"):
        answer.result()
    assert wire.pool.lost == 1


async def test_content_that_comes_in_time_leaves_no_timer_behind() -> None:
    wire = Wire()
    timers: list[asyncio.TimerHandle] = []
    call_later = wire.loop.call_later

    def noted(*given: Any) -> asyncio.TimerHandle:
        timers.append(call_later(*given))
        return timers[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(wire.loop, "call_later", noted)
        assert wire.get(OK, b"hello").result().body == b"hello"
        wire.get(OK)
        wire.connection.close()
    assert [timer.cancelled() for timer in timers] == [True, True]


async def test_an_idle_connection_that_is_lost_leaves_its_pool() -> None:
    wire = Wire()
    wire.get(OK + b"hello")
    wire.connection.connection_lost(None)
    assert wire.pool.lost == 1
    wire.connection.connection_lost(None)
    assert wire.pool.lost == 1


# ── Streaming and backpressure ───────────────────────────────────────────────────────────────


async def test_a_body_that_nobody_started_is_held_and_reading_stops() -> None:
    wire = Wire()
    answer = wire.get(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    assert wire.transport.reading
    wire.connection.data_received(b"def")
    assert not wire.transport.reading
    body = body_of(answer.result())
    assert body.length == 9
    sink = Sink()
    body.start(sink)
    assert sink.data == b"abcdef"
    assert wire.transport.reading
    wire.connection.data_received(b"ghi")
    assert (sink.data, sink.ended) == (b"abcdefghi", "finish")


async def test_a_body_that_ended_before_it_was_started_is_given_whole() -> None:
    wire = Wire()
    answer = wire.get(OK + b"he", b"llo")
    assert wire.pool.idle == 1
    assert wire.transport.reading
    sink = Sink()
    body_of(answer.result()).start(sink)
    assert (sink.data, sink.ended) == (b"hello", "finish")


async def test_a_body_that_broke_off_before_it_was_started_says_so() -> None:
    wire = Wire()
    answer = wire.get(OK + b"he")
    wire.connection.eof_received()
    sink = Sink()
    body_of(answer.result()).start(sink)
    assert (sink.data, sink.ended) == (b"he", "abort")


async def test_a_consumer_that_pauses_stops_the_reading_and_its_deadline() -> None:
    wire = Wire()
    answer = wire.get(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    body = body_of(answer.result())
    assert wire.connection.deadline_at < inf
    sink = Sink(then=body.pause)
    body.start(sink)
    assert not wire.transport.reading
    assert wire.connection.deadline_at == inf
    body.resume()
    assert wire.transport.reading
    assert wire.connection.deadline_at < inf
    wire.connection.data_received(b"defghi")
    assert sink.ended == "finish"


async def test_a_connection_that_was_paused_at_its_end_reads_again_when_idle() -> None:
    wire = Wire()
    answer = wire.get(OK + b"h")
    body = body_of(answer.result())
    body.start(Sink(then=body.pause))
    wire.connection.data_received(b"ello")
    assert wire.pool.idle == 1
    assert wire.transport.reading
    # The next request is none of the old body's business.
    wire.ask()
    body.pause()
    body.cancel()
    assert wire.transport.reading
    assert not wire.connection.closed


async def test_a_cancelled_body_closes_the_connection_and_calls_nobody() -> None:
    wire = Wire()
    answer = wire.get(OK + b"he")
    body = body_of(answer.result())
    sink = Sink()
    body.start(sink)
    body.cancel()
    assert wire.transport.aborted
    assert (wire.pool.idle, wire.pool.lost) == (0, 1)
    wire.connection.data_received(b"llo")
    wire.connection.connection_lost(None)
    assert (sink.data, sink.ended) == (b"he", "")


async def test_a_body_cancelled_by_its_own_consumer_stops_there() -> None:
    wire = Wire()
    answer = wire.get(OK + b"he")
    body = body_of(answer.result())
    sink = Sink(then=body.cancel)
    body.start(sink)
    assert wire.connection.closed
    assert sink.ended == ""


async def test_a_body_cancelled_in_its_last_bytes_has_no_end() -> None:
    wire = Wire()
    answer = wire.get(OK + b"h")
    body = body_of(answer.result())
    sink = Sink(then=body.cancel)
    body.start(sink)
    wire.connection.data_received(b"ello")
    assert (sink.ended, wire.pool.idle, wire.pool.lost) == ("", 0, 1)


async def test_many_small_chunks_of_one_read_are_one_piece() -> None:
    wire = Wire()
    answer = wire.get(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    sink = Sink()
    body_of(answer.result()).start(sink)
    wire.connection.data_received(b"1\r\na\r\n" * 100)
    assert sink.pieces == [b"a" * 100]


# ── Giving up ────────────────────────────────────────────────────────────────────────────────


async def test_giving_up_closes_the_connection_of_a_request_under_way() -> None:
    wire = Wire()
    answer = wire.ask()
    answer.cancel()
    wire.connection.give_up(answer)
    assert wire.transport.aborted
    assert wire.pool.lost == 1


async def test_giving_up_too_late_does_not_touch_the_next_request() -> None:
    wire = Wire()
    first = wire.get(OK + b"hello")
    second = wire.ask()
    wire.connection.give_up(first)
    wire.connection.data_received(OK + b"again")
    assert second.result().body == b"again"


async def test_giving_up_a_failed_exchange_is_the_end_of_its_error() -> None:
    wire = Wire()
    answer = wire.ask()
    wire.connection.eof_received()
    wire.connection.give_up(answer)
    answer.drop()
    del answer  # would be reported as never retrieved
    assert wire.pool.lost == 1


async def test_the_error_of_an_exchange_that_nobody_waits_for_is_lost() -> None:
    wire = Wire()
    answer = wire.ask()
    answer.cancel()
    wire.connection.eof_received()
    assert answer.cancelled()


async def test_a_streamed_answer_that_nobody_waits_for_closes_the_connection() -> None:
    wire = Wire()
    answer = wire.ask()
    answer.cancel()
    wire.connection.data_received(OK + b"he")
    assert wire.connection.closed


async def test_a_small_answer_that_nobody_waits_for_leaves_the_connection_usable() -> None:
    wire = Wire()
    answer = wire.ask()
    answer.cancel()
    wire.connection.data_received(OK + b"hello")
    assert wire.pool.idle == 1


async def test_a_connection_that_was_not_used_can_be_released() -> None:
    wire = Wire()
    wire.connection.release()
    assert wire.pool.idle == 1
    wire.connection.close()
    wire.connection.release()
    assert wire.pool.idle == 1


# ── Upgrade ──────────────────────────────────────────────────────────────────────────────────

SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"


async def test_an_upgraded_connection_is_given_away_with_what_came_behind_the_head() -> None:
    wire = Wire()
    answer = wire.ask(upgrade=True)
    wire.connection.data_received(SWITCH + b"early")
    wire.connection.data_received(b" bird")
    response = answer.result()
    assert response.upgraded
    assert response.status == 101
    assert response.body is None
    assert not wire.transport.reading
    transport, early = wire.connection.detach()
    assert (transport, early) == (wire.transport, b"early bird")
    assert wire.pool.lost == 1
    assert not wire.transport.aborted
    wire.connection.give_up(answer)
    assert not wire.transport.aborted


async def test_an_upgrade_that_nobody_asked_for_is_an_error() -> None:
    wire = Wire()
    answer = wire.get(SWITCH)
    with pytest.raises(UpstreamError, match="switched protocols"):
        answer.result()
    assert wire.transport.aborted


async def test_an_upgrade_that_nobody_wants_any_more_closes_the_connection() -> None:
    wire = Wire()
    answer = wire.ask(upgrade=True)
    wire.connection.data_received(SWITCH)
    wire.connection.give_up(answer)
    assert wire.transport.aborted
    with pytest.raises(UpstreamError, match="behind its 101"):
        wire.connection.detach()


# ── Deadlines ────────────────────────────────────────────────────────────────────────────────


async def test_silence_is_a_timeout_between_two_reads() -> None:
    wire = Wire()
    before = wire.loop.time()
    answer = wire.ask()
    assert wire.connection.deadline_at >= before + OPTIONS.read_timeout_s
    wire.connection.expire(wire.connection.deadline_at)
    with pytest.raises(UpstreamTimeoutError, match="sent nothing for 60 s"):
        answer.result()
    assert wire.transport.aborted


async def test_a_request_may_have_a_read_timeout_of_its_own() -> None:
    wire = Wire()
    answer = AwaitedAnswer(lambda *_: None)
    wire.connection.begin(answer, b"GET", read_timeout_s=5)
    wire.connection.send(b"x")
    assert wire.connection.deadline_at <= wire.loop.time() + 5
    wire.connection.data_received(OK + b"hello")
    assert answer.result().status == 200
    wire.ask()
    assert wire.connection.deadline_at > wire.loop.time() + 5


def dribbling(*fields: bytes, total_timeout_s: float) -> tuple[Wire, AwaitedAnswer]:
    """Return a request whose answer comes byte by byte, and has begun to."""
    wire = Wire(options=GroupOptions(total_timeout_s=total_timeout_s))
    lines = b"".join(b"%b\r\n" % field for field in fields)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%b\r\n" % lines
    return wire, wire.get(head, b"1\r\na\r\n")


async def test_who_dribbles_is_not_done_after_its_total_time() -> None:
    wire, answer = dribbling(total_timeout_s=30)
    sink = Sink()
    body_of(answer.result()).start(sink)
    wire.connection.data_received(b"1\r\nb\r\n")
    assert wire.connection.deadline_at <= wire.loop.time() + 30
    wire.connection.expire(wire.connection.deadline_at)
    assert sink.data == b"ab"
    assert isinstance(sink.error, UpstreamTimeoutError)
    assert "was not done after 30 s; raise total_timeout" in str(sink.error)


async def test_a_head_that_does_not_come_in_the_total_time_is_a_timeout() -> None:
    wire = Wire()
    answer = AwaitedAnswer(lambda *_: None)
    wire.connection.begin(answer, b"GET", total_timeout_s=5)
    wire.connection.send(b"x")
    wire.connection.data_received(b"HTTP/1.1 103 Early Hints\r\n\r\n")
    wire.connection.expire(wire.connection.deadline_at)
    with pytest.raises(UpstreamTimeoutError, match="was not done after 5 s"):
        answer.result()


async def test_the_total_time_does_not_run_while_the_request_is_still_coming() -> None:
    wire = Wire(options=GroupOptions(total_timeout_s=5))
    wire.ask(b"POST", more=True)
    assert wire.connection.deadline_at == inf
    wire.connection.send(b"end")
    assert wire.connection.deadline_at <= wire.loop.time() + 5


async def test_the_total_time_does_not_run_while_the_consumer_holds_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wire, answer = dribbling(total_timeout_s=30)
    body = body_of(answer.result())
    body.start(Sink())
    due = wire.connection.deadline_at
    body.pause()
    assert wire.connection.deadline_at == inf
    now = wire.loop.time()
    monkeypatch.setattr(wire.loop, "time", lambda: now + 40)
    body.resume()
    assert 39 < wire.connection.deadline_at - due < 41


@pytest.mark.parametrize("kind", [b"text/event-stream", b"Text/Event-Stream; charset=utf-8"])
async def test_events_come_for_as_long_as_somebody_listens(kind: bytes) -> None:
    wire, _ = dribbling(b"Content-Type: " + kind, total_timeout_s=30)
    assert wire.connection.deadline_at > wire.loop.time() + 30


async def test_silence_in_a_body_aborts_it() -> None:
    wire = Wire()
    sink = Sink()
    body_of(wire.get(OK + b"he").result()).start(sink)
    wire.connection.expire(wire.connection.deadline_at)
    assert isinstance(sink.error, UpstreamTimeoutError)


async def test_an_upstream_is_not_late_while_the_request_is_still_coming() -> None:
    wire = Wire()
    wire.ask(b"POST", more=True)
    assert wire.connection.deadline_at == inf
    wire.connection.send(b"end")
    assert wire.connection.deadline_at < inf


@pytest.mark.parametrize(
    "read", [b"HTTP/1.1 2", b"HTTP/1.1 103 Early Hints\r\n\r\n", OK, OK + b"h"]
)
async def test_every_read_moves_the_deadline(read: bytes) -> None:
    wire = Wire()
    wire.ask()
    wire.connection.deadline_at = 0
    wire.connection.data_received(read)
    assert wire.connection.deadline_at > wire.loop.time()


async def test_an_answer_that_began_early_must_go_on_though_the_request_does_not() -> None:
    wire = Wire()
    answer = wire.ask(b"POST", more=True)
    wire.connection.data_received(OK + b"he")
    assert wire.connection.deadline_at < inf
    sink = Sink()
    body_of(answer.result()).start(sink)
    wire.connection.expire(wire.connection.deadline_at)
    assert isinstance(sink.error, UpstreamTimeoutError)


async def test_a_slow_consumer_is_not_blamed_on_an_upstream_that_stopped_taking() -> None:
    wire = Wire()
    answer = wire.ask(b"POST", more=True)
    wire.transport.unsent = 100_000
    wire.connection.pause_writing()
    wire.connection.data_received(OK + b"he")
    body = body_of(answer.result())
    body.start(Sink(then=body.pause))
    assert wire.connection.deadline_at == inf
    body.resume()
    assert wire.connection.deadline_at < inf


async def test_an_upstream_that_takes_nothing_is_a_timeout() -> None:
    wire = Wire()
    answer = wire.ask(b"POST", more=True)
    wire.transport.unsent = 100_000
    wire.connection.pause_writing()
    due = wire.connection.deadline_at
    assert due < inf
    wire.transport.unsent = 90_000
    wire.connection.expire(due)
    assert wire.connection.deadline_at == due + OPTIONS.send_timeout_s
    wire.connection.expire(due + OPTIONS.send_timeout_s)
    with pytest.raises(UpstreamTimeoutError, match="took nothing of the request"):
        answer.result()


async def test_a_sender_waits_while_the_upstream_is_slow() -> None:
    wire = Wire()
    wire.ask(b"POST", more=True)
    assert await wire.connection.writable()
    wire.connection.pause_writing()
    waiting = asyncio.ensure_future(wire.connection.writable())
    await asyncio.sleep(0)
    assert not waiting.done()
    wire.connection.resume_writing()
    assert await waiting
    assert wire.connection.deadline_at == inf


async def test_a_sender_is_woken_when_the_connection_ends() -> None:
    wire = Wire()
    answer = wire.ask(b"POST", more=True)
    wire.connection.pause_writing()
    waiting = asyncio.ensure_future(wire.connection.writable())
    await asyncio.sleep(0)
    wire.connection.eof_received()
    assert not await waiting
    assert isinstance(answer.exception(), UpstreamError)


async def test_a_sender_that_is_cancelled_while_it_waits_is_forgotten() -> None:
    wire = Wire()
    wire.ask(b"POST", more=True)
    wire.connection.pause_writing()
    waiting = asyncio.ensure_future(wire.connection.writable())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    wire.connection.resume_writing()
    assert not wire.connection.closed


async def test_an_idle_connection_expires_quietly() -> None:
    wire = Wire()
    wire.get(OK + b"hello")
    assert wire.connection.deadline_at <= wire.loop.time() + OPTIONS.idle_timeout_s
    wire.connection.expire(wire.connection.deadline_at)
    assert wire.pool.lost == 1
