"""Rarer ways through the cache, and what must not happen."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from typing import Any

import pytest

from proxy.cache.memory import MemoryStore
from proxy.cache.tiered import NoPurges, Tiered
from proxy.errors import ClientGoneError, StoredContentError
from proxy.message import Response, Source
from proxy.pipeline.arrival import Arrival
from proxy.pipeline.completing import Behind
from proxy.pipeline.exchange import Step
from proxy.pipeline.fetch import Fetch
from proxy.pipeline.fetched import with_fields
from proxy.pipeline.finish import finish
from proxy.pipeline.forward import forward
from proxy.pipeline.heed import heed
from proxy.pipeline.lookup import look_again, lookup
from proxy.pipeline.question import Question
from proxy.pipeline.serve import serve
from proxy.pipeline.site import Route
from proxy.pipeline.slices import Part, Slicing
from proxy.pipeline.waiting import Waiting
from proxy.rules.cache_rule import CacheRule
from tests.cache.making import entry
from tests.pipeline.asking import Asking
from tests.pipeline.bodies import Pushed, Taken, until
from tests.pipeline.caching import FRESH, answer, asking, cached, held, later, waiting
from tests.pipeline.upstreams import GET, Client, Server, answering, close


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    server.script = answering(FRESH)
    client = cached(server)
    yield client
    await close(client)


def question_of(one: Asking) -> Question:
    return Question(one.exchange.request, CacheRule(), b"http")


def cache() -> Tiered:
    return Tiered(MemoryStore(1 << 20), None, NoPurges(), 1 << 18)


async def test_what_has_become_private_is_no_longer_stored(server: Server, client: Client) -> None:
    server.script = answering(
        answer(b"Cache-Control: max-age=60, stale-while-revalidate=600"),
        answer(b"Cache-Control: private", b"mine"),
    )
    await client.ask(GET)
    later(client, 70)
    assert client.wire.send(GET).endswith(b"hello")
    await until(lambda: held(client) is None)
    assert (await client.ask(GET)).endswith(b"mine")


async def test_what_clients_ask_of_the_cache_can_be_ignored(server: Server) -> None:
    client = cached(server, CacheRule(ignore=frozenset((b"request-cache-control",))))
    server.script = answering(FRESH)
    await client.ask(asking(b"Cache-Control: no-store"))
    assert client.wire.send(asking(b"Cache-Control: no-cache")).endswith(b"hello")
    await close(client)


async def test_a_fetch_whose_task_is_cancelled_tells_all_who_read(
    server: Server, client: Client
) -> None:
    async def script(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.take(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n")
        writer.write(b"Content-Length: 6\r\n\r\nabc")
        await server.go_on.wait()

    server.script = script
    client.send(GET)
    await client.says(b"abc")
    tiers = client.wire.site.cache
    assert tiers is not None
    (fetch,) = tiers.flights.of(b"http://h/a?b")
    fetch._exchange.task.cancel()
    await client.done()
    assert client.transport.is_closing()
    assert not tiers.flights
    server.go_on.set()


async def test_who_waits_goes_on_once() -> None:
    one = Asking()
    left: list[Waiting] = []

    class Awaited:
        def left(self, waiting: Waiting) -> None:
            left.append(waiting)

    held_up = Waiting(one.exchange, question_of(one), Awaited(), b"miss", 0)
    assert one.exchange.upstream_name == ""
    held_up.go_on(finish)
    held_up.go_on(finish)
    held_up.cancel()
    assert one.sink.done == 1
    assert not left


async def test_nothing_that_is_fetched_is_upgraded(client: Client) -> None:
    client.send(GET)
    tiers = client.wire.site.cache
    assert tiers is not None
    (fetch,) = tiers.flights.of(b"http://h/a?b")
    exchange = client.wire.connection.exchange
    assert exchange is not None
    transport = client.transport.__class__()
    with pytest.raises(RuntimeError):
        await fetch.tunnel(Response(101, []), transport, b"")
    assert transport.aborted
    with pytest.raises(RuntimeError):
        fetch.join(exchange, question_of(Asking()), b"miss")
    await fetch.sent()
    await client.done()


async def test_a_slice_is_not_upgraded_and_is_given_up_once(client: Client) -> None:
    one = Asking()
    answers: list[Response | Exception] = []
    part = Part(one.exchange, one.exchange.request, answers.append)
    transport = client.transport.__class__()
    with pytest.raises(RuntimeError):
        await part.tunnel(Response(101, []), transport, b"")
    assert transport.aborted
    with pytest.raises(RuntimeError):
        Slicing(one.exchange, question_of(one), lookup).changed()
    part.cancel()
    part.inform(103, [])
    part.exchange_done(part.exchange)
    assert isinstance(answers[0], ClientGoneError)
    part.send(Response(200, []))
    part.cancel()
    part.exchange_done(part.exchange)
    await part.sent()
    assert len(answers) == 2


async def test_what_is_here_at_once_is_over_at_once() -> None:
    arrival = Arrival(cache(), entry(), Response(200, [], b"x"), 100)
    assert arrival.start()
    arrival.give_up()
    await arrival.over()
    assert not arrival.streams_for(question_of(Asking()), 0.0)


def test_steps_of_the_cache_need_one() -> None:
    one = Asking()
    for step in (lookup, look_again):
        with pytest.raises(RuntimeError):
            step(one.exchange)
    with pytest.raises(RuntimeError):
        Fetch(one.exchange, question_of(one), None, lookup)
    heed(one.exchange, question_of(one), None)  # type: ignore[arg-type]  # not looked at


class Lost:
    """Content that the disk has not got any more."""

    size_bytes = 5

    def source(self, pieces: object = None) -> Source:
        raise StoredContentError("gone")


def test_what_is_lost_is_looked_for_once_more_and_then_asked_for() -> None:
    one = Asking()
    one.exchange.route = Route("cached", lookup)
    for expected in (lookup, forward):
        step = serve(one.exchange, question_of(one), entry(body=Lost()), 110.0, b"m")
        assert step is expected
    assert one.exchange.passed == b"miss"


def test_what_is_lost_is_asked_for_with_or_without_a_route() -> None:
    one = Asking()
    step = serve(one.exchange, question_of(one), entry(body=Lost()), 110.0, b"m")
    assert step is forward
    assert with_fields(one.exchange, Response(200, [(b"A", b"b")]), b"m").fields == [(b"A", b"b")]


def test_what_is_behind_what_is_here_is_held_back_and_given_up() -> None:
    source, taken = Pushed(3), Taken()
    behind = Behind(b"abc", source)
    assert behind.length == 6
    behind.pause()
    assert source.paused
    behind.resume()
    assert not source.paused
    behind.start(taken)
    source.to.feed(b"def")
    assert taken.data == b"abcdef"
    behind.cancel()
    assert source.cancelled
    assert Behind(b"abc", Pushed()).length is None


async def test_a_slice_that_comes_as_the_client_leaves_is_let_go(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    from proxy.pipeline import slices

    one = Asking(Route("r", finish))
    one.exchange.site.cache = cache()
    question = Question(one.exchange.request, CacheRule(slice_bytes=10), b"http")
    bodies = [Pushed(), Pushed()]
    told: list[Any] = []

    def ask(self: object, number: int, on_answer: Any) -> Part:
        told.append(on_answer)
        return Part(one.exchange, one.exchange.request, on_answer)

    monkeypatch.setattr(slices.Slicing, "ask", ask)
    work: Coroutine[Any, Any, Step | None] = slices.sliced(one.exchange, question, finish).work
    task = asyncio.ensure_future(work)
    await until(lambda: told)
    told[0](Response(206, [], bodies[0]))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    told[0](Response(206, [], bodies[1]))
    told[0](ClientGoneError("late"))
    assert [body.cancelled for body in bodies] == [True, True]


async def test_a_waiting_client_is_not_asked_for_again(server: Server, client: Client) -> None:
    server.script = waiting(FRESH)
    client.send(GET)
    client.leave()  # before anything was sent
    await client.done()
    server.go_on.set()
    assert client.wire.log.lines == [(b"/a?b", 499)]
