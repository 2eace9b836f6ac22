"""What is counted of the cache: for requests of clients, each once."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from proxy.observe.figures import CacheFigures
from proxy.rules.cache_rule import CacheRule, Conditions
from tests.pipeline.caching import another, answer, cached, later
from tests.pipeline.upstreams import GET, Client, Server, answering, close

FRESH = answer(b"Cache-Control: max-age=60, stale-while-revalidate=60")


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    server.script = answering(FRESH)
    client = cached(server)
    yield client
    await close(client)


def figures_of(client: Client) -> CacheFigures:
    return client.wire.site.cache_figures


async def test_a_miss_is_counted_with_its_reason_and_then_a_hit(client: Client) -> None:
    await client.ask(GET)
    assert figures_of(client).forwarded == {b"uri-miss": 1}
    assert figures_of(client).stored == 1
    client.wire.send(GET)
    assert figures_of(client).hits == 1
    assert figures_of(client).forwarded == {b"uri-miss": 1}


async def test_what_is_served_stale_is_told_apart(client: Client) -> None:
    await client.ask(GET)
    later(client, 70)
    client.wire.send(GET)
    assert (figures_of(client).hits, figures_of(client).stale) == (0, 1)


async def test_who_shares_the_answer_of_another_is_collapsed(
    server: Server, client: Client
) -> None:
    other = another(client)
    await asyncio.gather(client.ask(GET), other.ask(GET))
    assert len(server.heads) == 1
    assert figures_of(client).forwarded == {b"uri-miss": 2}
    assert figures_of(client).collapsed == 1


async def test_what_goes_past_the_cache_is_counted_once(server: Server) -> None:
    server.script = answering(FRESH)
    client = cached(server, CacheRule(bypass=Conditions(methods=frozenset((b"GET",)))))
    await client.ask(GET)
    assert figures_of(client).forwarded == {b"bypass": 1}
    await close(client)


def test_evictions_are_counted() -> None:
    figures = CacheFigures()
    figures.evict(object())
    assert figures.evicted == 1
