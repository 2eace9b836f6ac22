"""What a route with `server_timing` tells: of whom it waited for, and of nothing else."""

import asyncio
import re
from collections.abc import AsyncIterator
from functools import partial

import pytest

from proxy.errors import UpstreamTimeoutError
from proxy.message import Response
from proxy.pipeline.exchange import Exchange, Step
from proxy.pipeline.respond import respond
from proxy.pipeline.timing import TimedSink, Timing, tell_times, timed, timed_receive
from proxy.rules.server_timing import Metric, parse
from proxy.upstream.options import GroupOptions
from tests.pipeline.asking import Asking
from tests.pipeline.bodies import until
from tests.pipeline.caching import another, answer, asking, cached, held, status_of, waiting
from tests.pipeline.test_sibling import Pair
from tests.pipeline.upstreams import GET, OK, Client, Server, answering, close
from tests.protocol.wire import Wire

TOLD = b"X-Proxyd-Timing: app;dur=1.500, app_cpu;dur=0.500"
LINES = re.compile(rb"Server-Timing: ([^\r]*)\r\n")


def told(out: bytes) -> dict[str, Metric]:
    """Return the metrics of an answer by name; each comes once."""
    found = list(parse(LINES.findall(out)))
    assert len({one.name for one in found}) == len(found)
    return {one.name.decode(): one for one in found}


def tells(client: Client, *, managed: bool = True) -> Client:
    """Let the client's route tell, as `compose` has it."""
    tell_times(client.route, managed=managed)
    if client.route.bare is not None:
        client.route.bare.receive = client.route.receive
        client.route.bare.private_lines = client.route.private_lines
    return client


@pytest.fixture
async def plain(server: Server) -> AsyncIterator[Client]:
    client = tells(Client(server, GroupOptions(managed=True)))
    yield client
    await close(client)


@pytest.fixture
async def with_cache(server: Server) -> AsyncIterator[Client]:
    client = tells(cached(server))
    yield client
    await close(client)


async def test_the_parts_of_a_forwarded_request_are_told(server: Server, plain: Client) -> None:
    server.script = answering(answer(TOLD + b"\r\nServer-Timing: db;dur=7"))
    out = await plain.ask(GET)
    first = told(out)
    assert list(first) == [
        "db", "accept", "queue", "connect", "upstream", "app", "app_cpu", "total",
    ]  # fmt: skip
    assert first["connect"].duration_s > 0
    assert (first["db"].duration_s, first["app"].duration_s) == (0.007, 0.0015)
    parts = ("accept", "queue", "connect", "upstream")
    assert sum(first[name].duration_s for name in parts) <= first["total"].duration_s + 4e-6
    assert b"X-Proxyd-Timing" not in out
    again = told(await plain.ask(GET))
    assert (again["queue"].duration_s, again["connect"].duration_s) == (0, 0)


async def test_an_application_is_asked_by_us_alone(server: Server, plain: Client) -> None:
    await plain.ask(GET.replace(b"\r\n\r\n", b"\r\nX-Proxyd_Timing: app;dur=9\r\n\r\n"))
    assert server.heads[-1].lower().count(b"x-proxyd") == 1
    assert b"X-Proxyd-Timing: 1\r\n" in server.heads[-1]


async def test_a_server_of_others_is_neither_asked_nor_believed(server: Server) -> None:
    server.script = answering(answer(TOLD))
    client = tells(Client(server), managed=False)
    out = await client.ask(GET)
    assert b"app" not in out
    assert b"X-Proxyd" not in out + server.heads[-1]
    assert told(out)["upstream"].duration_s > 0
    await close(client)


async def test_a_route_without_it_tells_nothing_and_passes_on_what_is_said(
    server: Server, client: Client
) -> None:
    server.script = answering(answer(TOLD + b"\r\nServer-Timing: db;dur=7"))
    out = await client.ask(GET)
    assert LINES.findall(out) == [b"db;dur=7"]
    assert b"X-Proxyd" not in out + server.heads[-1]


async def test_waiting_for_content_is_accepting(plain: Client) -> None:
    plain.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nx")
    plain.wire.connection.exchange.began_at -= 3  # type: ignore[union-attr]
    plain.send(b"y")
    found = told(await plain.done())
    assert found["accept"].duration_s >= 3
    assert found["total"].duration_s > found["accept"].duration_s


async def test_who_waits_for_a_place_is_told_that_it_queued(server: Server) -> None:
    server.script = waiting(OK)
    client = tells(Client(server, GroupOptions(max_connections=1)), managed=False)
    second = another(client)
    client.send(GET)
    await until(lambda: len(server.heads) == 1)
    second.send(GET)
    await until(lambda: client.group.waiting == 1)
    server.go_on.set()
    found = told(await second.done(2))
    assert found["queue"].duration_s > 0
    assert found["connect"].duration_s == 0
    second.leave()
    await close(client)


async def test_who_waited_in_vain_is_told_so(server: Server) -> None:
    server.script = waiting(OK)
    client = tells(Client(server, GroupOptions(max_connections=1, queue_timeout_s=0)))
    second = another(client)
    client.send(GET)
    await until(lambda: len(server.heads) == 1)
    second.send(GET)
    await until(lambda: client.group.waiting == 1)
    client.group.sweep(float("inf"))
    await second.says(b"\r\n\r\n")
    out = second.transport.take()
    assert out.startswith(b"HTTP/1.1 503 ")
    assert list(told(out)) == ["accept", "queue", "connect", "total"]
    second.leave()
    await close(client)


async def test_a_hit_says_so_and_what_it_took(server: Server, with_cache: Client) -> None:
    fresh = b"Cache-Control: max-age=60\r\nServer-Timing: db;dur=7\r\n" + TOLD
    server.script = answering(answer(fresh))
    missed = told(await with_cache.ask(GET))
    assert missed["cache"] == (b"cache", 0, b"uri-miss")
    assert missed["app"].duration_s == 0.0015
    entry = held(with_cache)
    assert entry is not None
    stored = b"".join(b"%b: %b\r\n" % line for line in entry.fields)
    assert LINES.findall(stored) == [b"db;dur=7"]
    assert b"X-Proxyd" not in stored
    out = await with_cache.ask(GET)
    hit = told(out)
    assert list(hit) == ["db", "accept", "cache", "total"]
    assert hit["cache"].description == b"hit"
    assert 0 < hit["cache"].duration_s <= hit["total"].duration_s
    await with_cache.ask(asking(b"If-None-Match: x"))
    assert len(server.heads) == 1


async def test_who_joins_a_fetch_is_not_told_what_that_took(
    server: Server, with_cache: Client
) -> None:
    server.script = waiting(answer(b"Cache-Control: max-age=60\r\n" + TOLD))
    second = another(with_cache)
    with_cache.send(GET)
    second.send(GET)
    await until(lambda: len(server.heads) == 1)
    server.go_on.set()
    await with_cache.done(2)
    await second.says(b"hello")
    found = told(second.transport.written)
    assert list(found) == ["accept", "cache", "total"]
    assert found["cache"].description == b"collapsed"
    second.leave()


async def test_a_head_that_updates_what_is_stored_leaves_no_times_there(
    server: Server, with_cache: Client
) -> None:
    fresh = answer(b'Cache-Control: max-age=60\r\nETag: "a"\r\n' + TOLD)
    server.script = answering(fresh)
    await with_cache.ask(GET)
    server.script = answering(fresh.replace(b"hello", b""))
    request = asking(b"Cache-Control: no-cache", method=b"HEAD")
    assert LINES.search(await with_cache.ask(request))
    entry = held(with_cache)
    assert entry is not None
    assert b"x-proxyd-timing" not in entry.fields


@pytest.fixture
async def pair(server: Server) -> AsyncIterator[Pair]:
    made = Pair(server)
    await made.listen()
    yield made
    await made.close()


async def test_another_worker_s_times_are_told_as_they_are(server: Server, pair: Pair) -> None:
    fresh = answer(b"Cache-Control: max-age=60, public\r\n" + TOLD)
    server.script = answering(fresh)
    for client in (pair.owner, pair.other):
        tells(client)
    pair.way.receive = pair.other.route.receive
    out = await pair.other.ask(GET)
    found = told(out)
    assert list(found) == [
        "accept", "cache", "queue", "connect", "upstream", "app", "app_cpu", "total",
    ]  # fmt: skip
    assert found["upstream"].duration_s <= found["total"].duration_s
    assert b"X-Proxyd" not in out
    for client in (pair.owner, pair.other):
        entry = held(client)
        assert entry is not None
        assert not entry.fields.has_any(frozenset((b"server-timing", b"x-proxyd-timing")))
    # What the other has in memory needed nobody.
    cache = pair.other.wire.site.cache
    assert cache is not None
    cache.memory.remove(held(pair.other))  # type: ignore[arg-type]
    out = await pair.other.ask(GET)
    assert status_of(out).startswith(b"proxyd; hit")
    assert list(told(out)) == ["accept", "cache", "total"]


async def test_an_error_of_ours_is_timed_like_any_answer() -> None:
    def late(_: Exchange) -> Step:
        raise UpstreamTimeoutError("late")

    wire = Wire(timed(late))
    out = wire.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert out.startswith(b"HTTP/1.1 504 ")
    assert list(told(out)) == ["accept", "total"]


async def test_an_answer_that_no_sink_measures_is_received_all_the_same(
    server: Server, client: Client
) -> None:
    client.route.receive = partial(timed_receive, believed=True)
    server.script = answering(answer(TOLD))
    out = await client.ask(GET)
    assert out.endswith(b"hello")
    assert b"app" not in out


async def test_a_response_that_others_share_stays_as_it_is() -> None:
    shared = Response(200, [(b"A", b"b")], b"x")
    asked = Asking()
    asked.exchange.response = shared
    step = timed(respond)
    assert step(asked.exchange) is respond
    sink = asked.exchange.sink
    assert isinstance(sink, TimedSink)
    assert step(asked.exchange) is respond  # once more, as when a stored answer is gone
    assert asked.exchange.sink is sink
    respond(asked.exchange)
    assert shared.fields == [(b"A", b"b")]
    assert [name for name, _ in asked.sink.sent_responses[0].fields] == [b"A", b"Server-Timing"]
    sink.exchange_done(asked.exchange)
    assert asked.exchange.sink is asked.sink  # type: ignore[comparison-overlap]


async def test_all_else_goes_to_the_wire() -> None:
    calls: list[str] = []

    class Wired:
        began = True
        closing = False
        timing = None

        def now(self) -> float:
            return 5.0

        def inform(self, status: int, fields: object) -> None:
            calls.append(f"inform {status}")

        async def sent(self) -> None:
            calls.append("sent")

        async def tunnel(self, *_: object) -> None:
            calls.append("tunnel")

    exchange = Asking().exchange
    exchange.sink = wired = Wired()  # type: ignore[assignment]
    sink = TimedSink(exchange)
    sink.closing = True
    assert sink.closing is wired.closing is True
    assert sink.began
    sink.inform(103, [])
    await sink.sent()
    await sink.tunnel(Response(101, []), asyncio.Transport(), b"")
    assert calls == ["inform 103", "sent", "tunnel"]


def test_no_more_is_told_of_opening_than_was_waited() -> None:
    timing = Timing(0.0)
    assert timing.beyond() == []
    timing.waited(1.0, 3.0)
    timing.waited(2.0, 0.5)
    assert (timing.connect_s, timing.queue_s) == (1.5, 1.5)
