"""Answers with the same head: what is worked out once for them, and what each has to itself."""

import gc
from collections.abc import AsyncIterator
from email.utils import formatdate

import pytest

from proxy.cache.entry import Entry
from proxy.pipeline.arrival import Arrival
from proxy.pipeline.fetch import Fetch
from proxy.rules.cache_rule import CacheRule, Override, Paths
from tests.pipeline.caching import answer, cached, status_of
from tests.pipeline.upstreams import Client, Server, answering, close

DATE = b"Date: %b\r\n" % formatdate(usegmt=True).encode()
SAME = answer(DATE + b"Cache-Control: max-age=6000\r\nContent-Type: text/plain")


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    client = cached(server)
    server.script = answering(SAME)
    yield client
    await close(client)


def asking(path: bytes, *fields: bytes, host: bytes = b"h") -> bytes:
    lines = b"".join(field + b"\r\n" for field in fields)
    return b"GET %b HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (path, host, lines)


def entries(client: Client) -> dict[bytes, Entry]:
    cache = client.wire.site.cache
    assert cache is not None
    return {entry.key: entry for entry in cache.memory.entries()}


async def test_entries_share_what_was_read(client: Client) -> None:
    for path in (b"/one", b"/two"):
        await client.ask(asking(path))
    one, two = entries(client).values()
    assert one.key != two.key
    assert one.fields is two.fields


async def test_each_client_is_told_of_its_own_request(client: Client, server: Server) -> None:
    first = await client.ask(asking(b"/one"))
    again = await client.ask(asking(b"/one", b"Cache-Control: no-cache"))
    other = await client.ask(asking(b"/two"))
    told = [status_of(out).partition(b"; ttl")[0] for out in (first, again, other)]
    assert told == [
        b"proxyd; fwd=uri-miss; fwd-status=200",
        b"proxyd; fwd=request; fwd-status=200",
        b"proxyd; fwd=uri-miss; fwd-status=200",
    ]
    assert len(server.heads) == 3


@pytest.mark.parametrize("own_first", [False, True])
async def test_what_one_client_alone_may_have_is_not_stored(
    client: Client, own_first: bool
) -> None:
    own = asking(b"/own", b"Authorization: Basic bWlyYQ==")
    quiet = asking(b"/quiet", b"Cache-Control: no-store")
    shared = asking(b"/shared")
    for request in (own, quiet, shared) if own_first else (shared, own, quiet):
        assert (await client.ask(request)).endswith(b"hello")
    assert [key for key in entries(client) if b"/shared" not in key] == []
    assert len(entries(client)) == 1


async def test_a_path_with_another_lifetime_has_it(server: Server) -> None:
    longer = Override(rule=CacheRule(force_ttl_s=1000.0), paths=Paths(below=(b"/long/",)))
    client = cached(server, CacheRule(overrides=(longer,)))
    server.script = answering(answer(b"Cache-Control: max-age=60"))
    for path in (b"/a", b"/long/a", b"/b", b"/long/b"):
        await client.ask(asking(path))
    lasts = {
        key: round(entry.fresh_until - entry.born_at) for key, entry in entries(client).items()
    }
    assert list(lasts.values()) == [60, 1000, 60, 1000]
    await close(client)


async def test_new_rules_hold_for_a_head_that_the_old_ones_have_read(client: Client) -> None:
    await client.ask(asking(b"/one"))
    client.route.cache = CacheRule(ignore=frozenset((b"cache-control",)), default_ttl_s=7.0)
    await client.ask(asking(b"/two"))
    one, two = entries(client).values()
    assert round(two.fresh_until - two.born_at - (one.fresh_until - one.born_at)) != 0


async def test_groups_are_those_of_the_host_that_was_asked(server: Server) -> None:
    client = cached(server)
    server.script = answering(answer(b'Cache-Control: max-age=60\r\nCache-Groups: "posts"'))
    for host in (b"one.example", b"two.example"):
        await client.ask(asking(b"/", host=host))
    assert [entry.tags for entry in entries(client).values()] == [
        (b'group "posts" of http://one.example',),
        (b'group "posts" of http://two.example',),
    ]
    await close(client)


async def test_contents_are_each_answers_own(client: Client, server: Server) -> None:
    fields = DATE + b"Cache-Control: max-age=6000"
    server.script = answering(answer(fields, b"first"), answer(fields, b"other"))
    assert (await client.ask(asking(b"/one"))).endswith(b"\r\n\r\nfirst")
    assert (await client.ask(asking(b"/two"))).endswith(b"\r\n\r\nother")
    assert client.wire.send(asking(b"/one")).endswith(b"\r\n\r\nfirst")
    assert client.wire.send(asking(b"/two")).endswith(b"\r\n\r\nother")


async def test_what_asked_for_an_answer_is_gone_without_the_collector(client: Client) -> None:
    await client.ask(asking(b"/first"))
    gc.collect()
    gc.disable()
    try:
        for number in range(20):
            await client.ask(asking(b"/%d" % number))
        held = sum(isinstance(one, (Fetch, Arrival)) for one in gc.get_objects())
    finally:
        gc.enable()
    assert len(entries(client)) == 21
    assert held == 0
