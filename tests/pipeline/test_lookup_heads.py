"""What HEAD and 304 say of what is stored, and what the first client alone is told."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.cache.purges import Purges
from proxy.pipeline.site import Route
from proxy.rules.cache_rule import CacheRule
from tests.pipeline.bodies import until
from tests.pipeline.caching import FRESH, answer, asking, cached, held, later, status_of
from tests.pipeline.upstreams import GET, Client, Server, answering, close

HEAD = asking(b"Cache-Control: no-cache", method=b"HEAD")
TAGGED = b'Cache-Control: max-age=60\r\nETag: "a"'


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    client = cached(server)
    yield client
    await close(client)


def head_saying(fields: bytes, length: int = 5) -> bytes:
    return b"HTTP/1.1 200 OK\r\n" + fields + b"\r\nContent-Length: %d\r\n\r\n" % length


async def test_a_head_that_agrees_updates_what_is_stored(server: Server, client: Client) -> None:
    server.script = answering(
        answer(TAGGED), head_saying(b'Cache-Control: max-age=90\r\nETag: "a"\r\nX: 1')
    )
    await client.ask(GET)
    later(client, 70)
    await client.ask(asking(method=b"HEAD"))
    out = client.wire.send(GET)
    assert status_of(out) == b"proxyd; hit; ttl=90"
    assert b"X: 1\r\n" in out
    assert out.endswith(b"hello")


async def test_a_head_that_forbids_it_ends_what_is_stored(server: Server, client: Client) -> None:
    server.script = answering(answer(TAGGED), head_saying(b'Cache-Control: no-store\r\nETag: "a"'))
    await client.ask(GET)
    await client.ask(HEAD)
    assert held(client) is None


async def test_a_head_that_failed_says_nothing(server: Server, client: Client) -> None:
    server.script = answering(answer(TAGGED), b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
    await client.ask(GET)
    entry = held(client)
    await client.ask(HEAD)
    assert held(client) is entry
    assert client.wire.send(GET).endswith(b"hello")


async def test_a_head_of_what_is_not_stored_stores_nothing(server: Server, client: Client) -> None:
    server.script = answering(head_saying(TAGGED))
    out = await client.ask(asking(method=b"HEAD"))
    assert status_of(out) == b"proxyd; fwd=uri-miss; fwd-status=200"
    assert held(client) is None


async def test_a_head_is_compared_with_its_own_variant(server: Server, client: Client) -> None:
    vary = b'Cache-Control: max-age=60, public\r\nETag: "a"\r\nVary: Accept-Language'
    other = head_saying(vary.replace(b'"a"', b'"b"'))
    server.script = answering(answer(vary), other, other, answer(vary))
    english = b"Accept-Language: en"
    await client.ask(asking(english))
    await client.ask(asking(b"Accept-Language: de", method=b"HEAD"))
    assert client.wire.send(asking(english)).endswith(b"hello")
    await client.ask(asking(english, b"Cache-Control: no-cache", method=b"HEAD"))
    await client.ask(asking(english))
    assert len(server.heads) == 4


async def test_who_asked_gets_the_cookie_of_a_304_and_nobody_else(
    server: Server, client: Client
) -> None:
    server.script = answering(
        answer(TAGGED), b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nSet-Cookie: s=2\r\n\r\n'
    )
    await client.ask(GET)
    later(client, 70)
    assert b"Set-Cookie: s=2\r\n" in await client.ask(GET)
    assert b"Set-Cookie" not in client.wire.send(GET)


async def test_a_304_that_forbids_it_is_served_and_no_longer_kept(
    server: Server, client: Client
) -> None:
    server.script = answering(
        answer(TAGGED),
        b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nCache-Control: no-store\r\n\r\n',
    )
    await client.ask(GET)
    later(client, 70)
    out = await client.ask(GET)
    assert out.endswith(b"hello")
    assert status_of(out).endswith(b"; stored=?0")
    assert held(client) is None


async def test_a_304_for_another_variant_is_not_taken_for_this_one(
    server: Server, client: Client
) -> None:
    vary = b"Cache-Control: max-age=60, public\r\nVary: Accept-Language\r\n"
    server.script = answering(
        answer(vary + b'ETag: "en"', b"english"),
        answer(vary + b'ETag: "de"', b"deutsch"),
        b'HTTP/1.1 304 Not Modified\r\nETag: "en"\r\n\r\n',
        answer(vary + b'ETag: "de2"', b"neu"),
    )
    await client.ask(asking(b"Accept-Language: en"))
    await client.ask(asking(b"Accept-Language: de"))
    later(client, 70)
    assert (await client.ask(asking(b"Accept-Language: de"))).endswith(b"neu")
    assert len(server.heads) == 4
    assert b"If-None-Match" not in server.heads[3]
    assert client.wire.send(asking(b"Accept-Language: en")).endswith(b"english")


async def test_a_304_of_one_second_is_made_once(server: Server, client: Client) -> None:
    server.script = answering(answer(TAGGED))
    await client.ask(GET)
    outs = {client.wire.send(asking(b'If-None-Match: "a"')) for _ in range(3)}
    assert all(out.startswith(b"HTTP/1.1 304 ") for out in outs)


async def test_a_hit_says_each_second_how_old_it_is(server: Server, client: Client) -> None:
    server.script = answering(answer(TAGGED + b"\r\nX-Own: 1\r\nCache-Status: up; hit"))
    await client.ask(GET)
    for age in (0, 5, 12):
        whole = client.wire.send(GET)
        assert b"\r\nX-Own: 1\r\n" in whole
        assert b"\r\nContent-Length: 5\r\n" in whole
        same = client.wire.send(asking(b'If-None-Match: "a"'))
        assert b"X-Own" not in same
        assert b"Content-Length" not in same
        for out in (whole, same):
            assert out.count(b"Age: ") == out.count(b"ETag: ") == out.count(b"Cache-Status: ") == 1
            assert b"\r\nAge: %d\r\n" % age in out
            assert status_of(out) == b"up; hit, proxyd; hit; ttl=%d" % (60 - age)
        later(client, 7 if age else 5)


async def test_an_error_to_a_refresh_leaves_what_is_stale(server: Server, client: Client) -> None:
    server.script = answering(
        answer(b"Cache-Control: max-age=60, stale-while-revalidate=60"),
        answer(b"", b"oops", status=b"500 Oops"),
    )
    cache = client.wire.site.cache
    assert cache is not None
    await client.ask(GET)
    later(client, 70)
    for number in (2, 3):
        assert client.wire.send(GET).endswith(b"hello")
        await until(lambda: not cache.flights)
        assert len(server.heads) == number


async def test_an_entry_shows_each_route_its_own_fields(server: Server) -> None:
    client = cached(server)
    server.script = answering(FRESH)
    await client.ask(GET)
    client.wire.send(GET)
    route = client.route
    other = Route("other", route.step)
    for name in ("bare", "cache", "group"):
        setattr(other, name, getattr(route, name))
    other.headers = ((b"X-Own", b"1"),)
    other.header_names = frozenset((b"x-own",))
    client.wire.site.routes = (other,)
    assert b"X-Own: 1\r\n" in client.wire.send(GET)
    await close(client)


async def test_the_routes_own_fields_do_not_decide_about_storing(server: Server) -> None:
    client = cached(server)
    client.route.headers = ((b"Cache-Control", b"no-store"),)
    client.route.header_names = frozenset((b"cache-control",))
    server.script = answering(FRESH)
    for _ in range(2):
        assert b"Cache-Control: no-store\r\n" in await client.ask(GET)
    assert len(server.heads) == 1
    await close(client)


async def test_tags_are_passed_on_where_the_route_says_so(server: Server) -> None:
    client = cached(server, CacheRule(pass_tags=True))
    server.script = answering(answer(b"Cache-Control: max-age=60\r\nCache-Tag: a"))
    for _ in range(2):
        assert b"Cache-Tag: a\r\n" in await client.ask(GET)
    await close(client)


async def test_a_post_has_what_it_names_validated(
    server: Server, client: Client, tmp_path: Path
) -> None:
    cache = client.wire.site.cache
    assert cache is not None
    cache.purges = Purges(tmp_path)
    server.script = answering(
        answer(TAGGED), answer(b"Location: /a?b\r\nContent-Location: http://elsewhere/"), FRESH
    )
    await client.ask(GET)
    await client.ask(b"PUT /other HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
    assert server.contents[1] == b"abc"
    out = await client.ask(GET)
    assert status_of(out).startswith(b"proxyd; fwd=stale; fwd-status=200")
    cache.purges.close()


async def test_a_post_is_answered_although_nothing_can_be_invalidated(
    server: Server, client: Client, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It has been done by then; and the log says what that means."""
    cache = client.wire.site.cache
    assert cache is not None
    cache.purges = purges = Purges(tmp_path)
    server.script = answering(FRESH)
    other = Purges(tmp_path)
    with other._file.locked():
        out = await client.ask(asking(method=b"POST"))
    assert out.startswith(b"HTTP/1.1 200 ")
    assert "what a POST may have changed is not invalidated" in caplog.text
    other.close()
    purges.close()


async def test_an_error_to_a_post_invalidates_nothing(
    server: Server, client: Client, tmp_path: Path
) -> None:
    cache = client.wire.site.cache
    assert cache is not None
    cache.purges = Purges(tmp_path)
    server.script = answering(FRESH, answer(b"", status=b"422 No"))
    await client.ask(GET)
    await client.ask(asking(method=b"POST"))
    assert status_of(client.wire.send(GET)).startswith(b"proxyd; hit")
    cache.purges.close()
