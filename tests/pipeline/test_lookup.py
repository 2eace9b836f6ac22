"""Requests through the cache to a real upstream: what is served, what is asked, what is said."""

import asyncio
from collections.abc import AsyncIterator
from email.utils import formatdate
from pathlib import Path
from time import time

import pytest

from proxy.cache import flights
from proxy.cache.entry import Entry
from proxy.cache.purges import Purges
from proxy.rules.cache_rule import CacheRule, Conditions
from tests.pipeline.bodies import until
from tests.pipeline.caching import (
    FRESH,
    another,
    answer,
    asking,
    cached,
    held,
    later,
    status_of,
    waiting,
)
from tests.pipeline.upstreams import GET, Client, Server, answering, close


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    server.script = answering(FRESH)
    client = cached(server)
    yield client
    await close(client)


# ── Hits ─────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_fresh_is_served_without_the_upstream(server: Server, client: Client) -> None:
    first = await client.ask(GET)
    assert status_of(first) == b"proxyd; fwd=uri-miss; fwd-status=200; ttl=59; stored"
    second = client.wire.send(GET)  # at once: nothing waits
    assert second.endswith(b"\r\n\r\nhello")
    assert b"Age: 0\r\n" in second
    assert status_of(second) == b"proxyd; hit; ttl=60"
    assert len(server.heads) == 1


async def test_age_and_lifetime_move_with_the_time(server: Server, client: Client) -> None:
    await client.ask(GET)
    later(client, 10)
    out = client.wire.send(GET)
    assert b"Age: 10\r\n" in out
    assert status_of(out) == b"proxyd; hit; ttl=50"


async def test_the_age_of_an_upstream_cache_counts(server: Server, client: Client) -> None:
    server.script = answering(answer(b"Cache-Control: max-age=60\r\nAge: 50"))
    await client.ask(GET)
    out = client.wire.send(GET)
    assert b"Age: 50\r\n" in out
    later(client, 10)
    await client.ask(GET)
    assert len(server.heads) == 2


async def test_head_is_answered_from_what_get_has_stored(server: Server, client: Client) -> None:
    await client.ask(GET)
    out = client.wire.send(asking(method=b"HEAD"))
    assert b"\r\nContent-Length: 5\r\n" in out
    assert out.endswith(b"\r\n\r\n")
    assert len(server.heads) == 1


async def test_a_range_is_cut_out_of_what_is_stored(server: Server, client: Client) -> None:
    await client.ask(GET)
    out = client.wire.send(asking(b"Range: bytes=1-2"))
    assert out.startswith(b"HTTP/1.1 206 ")
    assert b"Content-Range: bytes 1-2/5\r\n" in out
    assert out.endswith(b"\r\n\r\nel")
    none = client.wire.send(asking(b"Range: bytes=9-"))
    assert none.startswith(b"HTTP/1.1 416 ")
    assert b"Content-Range: bytes */5\r\n" in none
    assert len(server.heads) == 1


async def test_several_ranges_are_parts_of_one_answer(server: Server, client: Client) -> None:
    server.script = answering(answer(b"Cache-Control: max-age=60\r\nContent-Type: a/b", b"x" * 900))
    await client.ask(GET)
    out = client.wire.send(asking(b"Range: bytes=0-0,-1"))
    assert b"Content-Type: multipart/byteranges; boundary=" in out
    assert out.count(b"Content-Type: a/b\r\n") == 2
    assert b"Content-Range: bytes 899-899/900\r\n\r\nx\r\n" in out


async def test_the_clients_own_conditions_are_answered_from_what_is_stored(
    server: Server, client: Client
) -> None:
    server.script = answering(answer(b'Cache-Control: max-age=60\r\nETag: "a"'))
    await client.ask(asking(b'If-None-Match: "x"'))
    assert b"If-None-Match" not in server.heads[0]
    out = client.wire.send(asking(b'If-None-Match: "a"'))
    assert out.startswith(b"HTTP/1.1 304 ")
    assert b'ETag: "a"\r\n' in out
    assert out.endswith(b"\r\n\r\n")
    assert len(server.heads) == 1


async def test_a_condition_that_holds_on_a_miss_is_a_304(server: Server, client: Client) -> None:
    server.script = answering(answer(b'Cache-Control: max-age=60\r\nETag: "a"'))
    out = await client.ask(asking(b'If-None-Match: "a"'))
    assert out.startswith(b"HTTP/1.1 304 ")


async def test_a_range_of_what_is_not_stored_fetches_all_of_it(
    server: Server, client: Client
) -> None:
    out = await client.ask(asking(b"Range: bytes=1-2"))
    assert b"Range" not in server.heads[0]
    assert out.startswith(b"HTTP/1.1 206 ")
    assert out.endswith(b"\r\n\r\nel")
    assert client.wire.send(GET).endswith(b"hello")


async def test_a_date_is_added_to_what_is_stored_without_one(client: Client) -> None:
    await client.ask(GET)
    entry = held(client)
    assert entry is not None
    assert b"date" in entry.fields


# ── Validation ───────────────────────────────────────────────────────────────────────────────


async def test_what_is_stale_is_validated_and_fresh_again(server: Server, client: Client) -> None:
    server.script = answering(
        answer(b'Cache-Control: max-age=60\r\nETag: "a"\r\nX: 1'),
        b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nCache-Control: max-age=90\r\nX: 2\r\n\r\n',
    )
    await client.ask(GET)
    later(client, 61)
    out = await client.ask(GET)
    assert b'If-None-Match: "a"\r\n' in server.heads[1]
    assert out.startswith(b"HTTP/1.1 200 ")
    assert b"X: 2\r\n" in out
    assert out.endswith(b"hello")
    assert status_of(out) == b"proxyd; fwd=stale; fwd-status=304; ttl=89; stored"
    assert status_of(client.wire.send(GET)) == b"proxyd; hit; ttl=90"


async def test_what_has_changed_replaces_what_is_stale(server: Server, client: Client) -> None:
    server.script = answering(
        answer(b'Cache-Control: max-age=60\r\nETag: "a"'),
        answer(b'Cache-Control: max-age=60\r\nETag: "b"', b"other"),
    )
    await client.ask(GET)
    later(client, 61)
    assert (await client.ask(GET)).endswith(b"other")
    assert client.wire.send(GET).endswith(b"other")


async def test_a_304_about_something_else_is_asked_again(server: Server, client: Client) -> None:
    server.script = answering(
        answer(b'Cache-Control: max-age=60\r\nETag: "a"'),
        b'HTTP/1.1 304 Not Modified\r\nETag: "z"\r\n\r\n',
        answer(b'Cache-Control: max-age=60\r\nETag: "z"', b"other"),
    )
    await client.ask(GET)
    later(client, 61)
    assert (await client.ask(GET)).endswith(b"other")
    assert len(server.heads) == 3
    assert b"If-None-Match" not in server.heads[2]


async def test_no_cache_in_a_request_validates_what_is_fresh(
    server: Server, client: Client
) -> None:
    await client.ask(GET)
    out = await client.ask(asking(b"Cache-Control: no-cache"))
    assert status_of(out).startswith(b"proxyd; fwd=request; fwd-status=200")
    assert len(server.heads) == 2


async def test_only_if_cached_never_goes_upstream(server: Server, client: Client) -> None:
    out = client.wire.send(asking(b"Cache-Control: only-if-cached"))
    assert out.startswith(b"HTTP/1.1 504 ")
    assert not server.heads
    await client.ask(GET)
    out = client.wire.send(asking(b"Cache-Control: only-if-cached"))
    assert out.startswith(b"HTTP/1.1 200 ")


async def test_no_store_in_a_request_stores_nothing(server: Server, client: Client) -> None:
    await client.ask(asking(b"Cache-Control: no-store"))
    await client.ask(GET)
    assert len(server.heads) == 2


# ── Stale ────────────────────────────────────────────────────────────────────────────────────


async def test_stale_is_served_while_one_refresh_runs(server: Server, client: Client) -> None:
    server.script = answering(
        answer(b"Cache-Control: max-age=60, stale-while-revalidate=30"),
        answer(b"Cache-Control: max-age=60", b"other"),
    )
    await client.ask(GET)
    later(client, 70)
    for _ in range(3):
        out = client.wire.send(GET)
        assert out.endswith(b"hello")
        assert status_of(out) == b"proxyd; hit; ttl=-11"
    await until(lambda: client.wire.send(GET).endswith(b"other"))
    assert len(server.heads) == 2


async def test_stale_is_better_than_an_error_where_it_says_so(
    server: Server, client: Client
) -> None:
    server.script = answering(
        answer(b"Cache-Control: max-age=60, stale-if-error=30"),
        answer(b"", b"broken", status=b"503 Service Unavailable"),
    )
    await client.ask(GET)
    later(client, 70)
    out = await client.ask(GET)
    assert out.startswith(b"HTTP/1.1 200 ")
    assert status_of(out) == b"proxyd; fwd=stale; fwd-status=503; ttl=-11"
    later(client, 30)
    assert (await client.ask(GET)).startswith(b"HTTP/1.1 503 ")


async def test_stale_is_served_when_the_upstream_is_gone(server: Server, client: Client) -> None:
    server.script = answering(answer(b"Cache-Control: max-age=60, stale-if-error=30"))
    await client.ask(GET)
    later(client, 70)
    server.path.unlink()
    for writer in server.writers:
        writer.close()
    await until(lambda: client.group.connections == 0)
    assert (await client.ask(GET)).startswith(b"HTTP/1.1 200 ")
    later(client, 30)
    assert (await client.ask(GET)).startswith(b"HTTP/1.1 502 ")


async def test_must_revalidate_is_never_served_stale(server: Server, client: Client) -> None:
    said = b"Cache-Control: max-age=60, must-revalidate, stale-if-error=30"
    server.script = answering(answer(said), answer(b"", status=b"500 Oops"))
    await client.ask(GET)
    later(client, 70)
    assert (await client.ask(GET)).startswith(b"HTTP/1.1 500 ")


# ── What goes past ───────────────────────────────────────────────────────────────────────────


async def test_other_methods_go_past_and_invalidate(server: Server, client: Client) -> None:
    await client.ask(GET)
    out = await client.ask(asking(method=b"POST"))
    assert status_of(out) == b"proxyd; fwd=method; fwd-status=200"


async def test_a_condition_of_the_rule_bypasses_the_cache(server: Server) -> None:
    server.script = answering(FRESH)
    client = cached(server, CacheRule(bypass=Conditions(methods=frozenset((b"GET",)))))
    for _ in range(2):
        assert status_of(await client.ask(GET)) == b"proxyd; fwd=bypass; fwd-status=200"
    assert len(server.heads) == 2
    await close(client)


async def test_what_may_not_be_stored_is_passed_on_with_its_cookie(
    server: Server, client: Client
) -> None:
    server.script = answering(answer(b"Cache-Control: max-age=60\r\nSet-Cookie: a=b"))
    for _ in range(2):
        assert b"Set-Cookie: a=b\r\n" in await client.ask(GET)
    assert len(server.heads) == 2
    assert held(client) is None


async def test_head_that_contradicts_what_is_stored_has_it_validated(
    server: Server, client: Client
) -> None:
    server.script = answering(
        answer(b'Cache-Control: max-age=60\r\nETag: "a"'),
        b'HTTP/1.1 200 OK\r\nETag: "b"\r\nContent-Length: 5\r\n\r\n',
        answer(b'Cache-Control: max-age=60\r\nETag: "b"', b"other"),
    )
    await client.ask(GET)
    await client.ask(asking(b"Cache-Control: no-cache", method=b"HEAD"))
    assert (await client.ask(GET)).endswith(b"other")


async def test_tags_stay_here(server: Server, client: Client) -> None:
    server.script = answering(answer(b"Cache-Control: max-age=60\r\nCache-Tag: a, b"))
    assert b"Cache-Tag" not in await client.ask(GET)
    assert b"Cache-Tag" not in client.wire.send(GET)
    entry = held(client)
    assert isinstance(entry, Entry)
    assert entry.tags == (b"a", b"b")


# ── Vary ─────────────────────────────────────────────────────────────────────────────────────


async def test_variants_are_kept_apart(server: Server, client: Client) -> None:
    vary = b"Cache-Control: max-age=60, public\r\nVary: Accept-Language"
    server.script = answering(answer(vary, b"english"), answer(vary, b"deutsch"))
    for _ in range(2):
        assert (await client.ask(asking(b"Accept-Language: en"))).endswith(b"english")
        assert (await client.ask(asking(b"Accept-Language: de"))).endswith(b"deutsch")
    assert len(server.heads) == 2


async def test_people_with_cookies_share_only_what_says_that_it_is_for_all(
    server: Server, client: Client
) -> None:
    server.script = answering(
        answer(b"Cache-Control: max-age=60", b"mine"), answer(b"Cache-Control: max-age=60", b"your")
    )
    assert (await client.ask(asking(b"Cookie: s=1"))).endswith(b"mine")
    assert (await client.ask(asking(b"Cookie: s=2"))).endswith(b"your")
    assert client.wire.send(asking(b"Cookie: s=1")).endswith(b"mine")


# ── Several who ask for one thing ────────────────────────────────────────────────────────────


async def test_who_asks_meanwhile_gets_the_same_answer(server: Server, client: Client) -> None:
    server.script = waiting(FRESH)
    others = [another(client) for _ in range(5)]
    client.send(GET)
    for other in others:
        other.send(GET)
    server.go_on.set()
    await until(lambda: len(client.wire.log.lines) == 6)
    assert len(server.heads) == 1
    assert status_of(client.transport.take()).endswith(b"; stored")
    for other in others:
        out = other.transport.take()
        assert out.endswith(b"hello")
        assert status_of(out).endswith(b"; stored; collapsed")
        other.leave()


async def test_who_asks_meanwhile_does_not_queue_for_what_is_private(
    server: Server, client: Client
) -> None:
    server.script = waiting(answer(b"Cache-Control: private"))
    others = [another(client) for _ in range(5)]
    client.send(GET)
    await until(lambda: len(server.heads) == 1)
    for other in others:
        other.send(GET)
    assert len(server.heads) == 1
    server.go_on.set()
    await until(lambda: len(client.wire.log.lines) == 6)
    assert len(server.heads) == 6
    for other in others:
        assert b"collapsed=?0" in status_of(other.transport.take())
    server.go_on.clear()
    for other in others:  # from now on they do not even wait for the first
        other.send(GET)
    await until(lambda: len(server.heads) == 11)
    server.go_on.set()
    await until(lambda: len(client.wire.log.lines) == 11)
    for other in others:
        other.leave()


async def test_a_stream_is_joined_while_it_comes(server: Server, client: Client) -> None:
    async def script(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.take(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n")
        writer.write(b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await server.go_on.wait()
        writer.write(b"3\r\ndef\r\n0\r\n\r\n")

    server.script = script
    client.send(GET)
    await client.says(b"3\r\nabc\r\n")
    other = another(client)
    other.send(GET)
    await other.says(b"3\r\nabc\r\n")
    server.go_on.set()
    await until(lambda: len(client.wire.log.lines) == 2)
    for each in (client, other):
        assert each.transport.take().endswith(b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")
    assert client.wire.send(GET).endswith(b"\r\n\r\nabcdef")
    assert len(server.heads) == 1
    other.leave()


async def test_an_answer_that_breaks_off_is_not_stored(server: Server, client: Client) -> None:
    async def script(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.take(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n")
        writer.write(b"Content-Length: 6\r\n\r\nabc")
        await server.go_on.wait()
        writer.close()

    server.script = script
    client.send(GET)
    await client.says(b"abc")
    server.go_on.set()
    await client.done()
    assert client.transport.is_closing()
    assert held(client) is None
    assert not client.wire.site.cache.flights  # type: ignore[union-attr]


async def test_a_client_that_leaves_alone_gives_the_fetch_up(
    server: Server, client: Client
) -> None:
    server.script = waiting(FRESH)
    client.send(GET)
    await until(lambda: len(server.heads) == 1)
    client.leave()
    await client.done()
    await until(lambda: client.group.connections == 0)
    assert client.wire.log.lines == [(b"/a?b", 499)]


async def test_a_client_that_leaves_others_behind_does_not_take_their_answer(
    server: Server, client: Client
) -> None:
    server.script = waiting(FRESH)
    other = another(client)
    client.send(GET)
    other.send(GET)
    await until(lambda: len(server.heads) == 1)
    client.leave()
    await client.done()
    server.go_on.set()
    await until(lambda: len(client.wire.log.lines) == 2)
    assert other.transport.take().endswith(b"hello")
    assert len(server.heads) == 1
    other.leave()


@pytest.mark.parametrize(("first", "stored"), [(400_000, True), (10_000, False)])
async def test_a_client_that_leaves_does_not_lose_what_is_mostly_here(
    server: Server, client: Client, first: int, stored: bool
) -> None:
    async def script(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.take(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n")
        writer.write(b"Content-Length: 700000\r\n\r\n" + b"x" * first)
        await server.go_on.wait()
        writer.write(b"x" * (700_000 - first))

    cache = client.wire.site.cache
    assert cache is not None
    cache.memory_object_bytes = 1 << 20
    server.script = script
    client.send(GET)
    await until(lambda: len(client.transport.written) > first)
    client.leave()
    server.go_on.set()
    await until(lambda: not cache.flights)
    assert (held(client) is not None) is stored


async def test_an_error_goes_to_all_who_wait(server: Server, client: Client) -> None:
    async def script(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.take(reader)
        await server.go_on.wait()
        writer.write(b"nonsense\r\n\r\n")

    server.script = script
    other = another(client)
    client.send(GET)
    other.send(GET)
    await until(lambda: len(server.heads) == 1)
    server.go_on.set()
    await until(lambda: len(client.wire.log.lines) == 2)
    assert client.transport.take().startswith(b"HTTP/1.1 502 ")
    assert other.transport.take().startswith(b"HTTP/1.1 502 ")
    other.leave()


async def test_what_is_too_large_streams_and_is_not_stored(server: Server, client: Client) -> None:
    cache = client.wire.site.cache
    assert cache is not None
    cache.memory_object_bytes = 1000
    server.script = answering(answer(b"Cache-Control: max-age=60", b"x" * 500_000))
    assert (await client.ask(GET)).endswith(b"x" * 500_000)
    assert held(client) is None


async def test_an_answer_from_the_past_is_not_fresh_for_longer(
    server: Server, client: Client
) -> None:
    date = formatdate(time() - 100, usegmt=True).encode()
    said = b'Cache-Control: max-age=60\r\nETag: "a"\r\nDate: ' + date
    server.script = answering(answer(said))
    await client.ask(GET)
    await client.ask(GET)
    assert len(server.heads) == 2


async def test_a_post_has_its_groups_validated_before_it_is_answered(
    server: Server, client: Client, tmp_path: Path
) -> None:
    cache = client.wire.site.cache
    assert cache is not None
    cache.purges = Purges(tmp_path)
    server.script = answering(
        answer(b'Cache-Control: max-age=60\r\nCache-Groups: "posts"\r\nETag: "a"'),
        answer(b'Cache-Group-Invalidation: "posts"'),
        answer(b'Cache-Control: max-age=60\r\nETag: "b"', b"other"),
    )
    await client.ask(GET)
    await client.ask(b"POST /elsewhere HTTP/1.1\r\nHost: h\r\n\r\n")
    assert (await client.ask(GET)).endswith(b"other")
    assert b'If-None-Match: "a"' in server.heads[2]
    cache.purges.close()


async def test_a_post_has_its_own_url_validated(
    server: Server, client: Client, tmp_path: Path
) -> None:
    cache = client.wire.site.cache
    assert cache is not None
    cache.purges = Purges(tmp_path)
    await client.ask(GET)
    await client.ask(asking(method=b"POST"))
    await client.ask(GET)
    assert len(server.heads) == 3
    cache.purges.close()


async def test_who_shows_a_certificate_shares_nothing(server: Server, client: Client) -> None:
    client.wire.connection.peer.certificate = ((b"X-Client-Cert", b"x"),)
    for _ in range(2):
        assert status_of(await client.ask(GET)) == b"proxyd; fwd=bypass; fwd-status=200"
    assert len(server.heads) == 2


async def test_an_upgrade_goes_past(server: Server, client: Client) -> None:
    out = await client.ask(asking(b"Connection: upgrade", b"Upgrade: websocket"))
    assert status_of(out) == b"proxyd; fwd=bypass; fwd-status=200"


async def test_what_can_be_stored_after_all_is_stored_again_before_long(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flights, "LOOK_S", 0.0)
    private = answer(b"Cache-Control: private")
    server.script = answering(private, private, FRESH)
    for _ in range(4):  # the third could have been stored, the fourth is
        await client.ask(GET)
    assert status_of(client.wire.send(GET)).startswith(b"proxyd; hit; ttl=")
    assert len(server.heads) == 4


@pytest.mark.parametrize("name", [b"Range", b"If-None-Match", b"Cookie", b"X"])
async def test_whatever_an_answer_varies_by_it_is_fetched_once(
    server: Server, client: Client, name: bytes
) -> None:
    server.script = answering(answer(b"Cache-Control: public, max-age=60\r\nVary: " + name))
    request = asking(b"Range: bytes=0-1", b'If-None-Match: "x"', b"Cookie: a=b", b"X: y")
    for _ in range(2):
        assert (await client.ask(request)).startswith(b"HTTP/1.1 206 ")
    assert len(server.heads) == 1


async def test_what_must_be_validated_and_cannot_be_is_a_504(
    server: Server, client: Client
) -> None:
    server.script = answering(answer(b"Cache-Control: max-age=60, must-revalidate"))
    await client.ask(GET)
    later(client, 70)
    server.path.unlink()
    for writer in server.writers:
        writer.close()
    await until(lambda: client.group.connections == 0)
    assert (await client.ask(GET)).startswith(b"HTTP/1.1 504 ")
