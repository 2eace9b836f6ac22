"""Two workers, each with a cache of its own: one of them asks the upstream for both."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from proxy.message import Fields, Request
from proxy.pipeline.entrance import Entrance
from proxy.pipeline.exchange import Peer
from proxy.pipeline.forward import forward
from proxy.pipeline.sibling import Siblings, asked_inside
from proxy.pipeline.site import Route
from proxy.protocol.listener import listen
from proxy.rules.cache_rule import CacheRule
from proxy.upstream.address import UnixAddress
from proxy.upstream.group import Group
from proxy.upstream.options import GroupOptions
from tests.pipeline.asking import Asking
from tests.pipeline.bodies import until
from tests.pipeline.caching import (
    another,
    answer,
    asking,
    cached,
    held,
    later,
    status_of,
    waiting,
)
from tests.pipeline.test_slices import Film
from tests.pipeline.upstreams import GET, Server, answering, close

FRESH = answer(b"Cache-Control: max-age=60, public\r\nCache-Tag: t")


class Pair:
    """`owner` has all keys; `other` asks it over a real socket."""

    def __init__(self, server: Server) -> None:
        self.owner = cached(server)
        self.other = cached(server)
        self.path = server.path.with_name("w")
        self.way = Route("worker 1", forward)
        self.way.inside = True
        self.way.buffer_response = 0
        self.way.group = Group("worker 1", [UnixAddress(self.path)], GroupOptions())
        self.owner.wire.site.siblings = Siblings([None])
        self.other.wire.site.siblings = Siblings([self.way])
        self.listening: asyncio.Server | None = None

    async def listen(self) -> None:
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(self.path))
        self.listening = await listen(
            self.owner.wire.service, sock, backlog=16, entrance=Entrance(inside=True)
        )

    async def close(self) -> None:
        assert self.way.group is not None
        self.way.group.close()
        if self.listening is not None:
            self.listening.close()
        for client in (self.other, self.owner):
            await close(client)
        self.owner.wire.service.abort_all()
        await until(lambda: not self.owner.wire.service.connections)
        self.path.unlink(missing_ok=True)


@pytest.fixture
async def pair(server: Server) -> AsyncIterator[Pair]:
    server.script = answering(FRESH)
    made = Pair(server)
    await made.listen()
    yield made
    await made.close()


async def test_both_workers_ask_the_upstream_once(server: Server, pair: Pair) -> None:
    server.script = waiting(FRESH)
    pair.owner.send(GET)
    pair.other.send(GET)
    await until(lambda: len(server.heads) == 1)
    server.go_on.set()
    first, second = await pair.owner.done(), await pair.other.done()
    assert first.endswith(b"hello")
    assert second.endswith(b"hello")
    assert len(server.heads) == 1
    assert second.count(b"proxyd; ") == 1
    assert second.count(b"Via") == 1


async def test_what_the_other_worker_has_is_kept_here_as_well(server: Server, pair: Pair) -> None:
    await pair.owner.ask(GET)
    out = await pair.other.ask(GET)
    assert status_of(out).startswith(b"proxyd; hit; ttl=")
    assert status_of(pair.other.wire.send(GET)).startswith(b"proxyd; hit; ttl=")
    assert len(server.heads) == 1
    entry = held(pair.other)
    assert entry is not None
    assert entry.tags == (b"t",)
    assert b"Cache-Tag" not in out


async def test_the_upstream_sees_the_client_and_not_the_worker(server: Server, pair: Pair) -> None:
    await pair.other.ask(asking(b"X-Own: 1", b"Proxyd-Asker: forged"))
    head = server.heads[0]
    assert b"X-Forwarded-For: 192.0.2.1\r\n" in head
    assert b"X-Own: 1\r\n" in head
    assert head.count(b"Via: ") == 1
    assert b"Proxyd-Asker" not in head


async def test_the_owner_logs_nothing_of_it(pair: Pair) -> None:
    await pair.other.ask(GET)
    assert pair.owner.wire.log.lines == []


async def test_what_is_one_clients_own_reaches_it_through_the_other_worker(
    server: Server, pair: Pair
) -> None:
    server.script = answering(answer(b"Cache-Control: private\r\nSet-Cookie: a=b"))
    out = await pair.other.ask(GET)
    assert b"Set-Cookie: a=b\r\n" in out
    assert held(pair.other) is None
    assert await pair.other.ask(GET)
    assert len(server.heads) == 2
    assert pair.owner.wire.service.connections  # one was enough for both


async def test_a_worker_that_is_gone_is_done_without(server: Server, pair: Pair) -> None:
    assert pair.listening is not None
    pair.listening.close()
    pair.path.unlink(missing_ok=True)
    assert (await pair.other.ask(GET)).endswith(b"hello")
    assert held(pair.other) is not None
    assert held(pair.owner) is None


async def test_what_no_worker_sends_is_refused(pair: Pair) -> None:
    reader, writer = await asyncio.open_unix_connection(str(pair.path))
    writer.write(GET)
    assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
    writer.close()


async def test_a_stream_passes_through_the_other_worker(server: Server, pair: Pair) -> None:
    size = 700_000
    server.script = answering(answer(b"Cache-Control: max-age=60", b"x" * size))
    out = await pair.other.ask(GET)
    assert out.endswith(b"x" * size)


async def test_who_waits_for_what_the_other_worker_has_is_told_of_a_hit(pair: Pair) -> None:
    await pair.owner.ask(GET)
    third = another(pair.other)
    pair.other.send(GET)
    third.send(GET)
    await until(lambda: len(pair.other.wire.log.lines) == 2)
    for client in (pair.other, third):
        assert status_of(client.transport.take()).startswith(b"proxyd; hit; ttl=")
    third.leave()


async def test_the_routes_own_fields_are_put_to_it_once_and_decide_nothing(
    server: Server, pair: Pair
) -> None:
    for client in (pair.owner, pair.other):
        client.route.headers = ((b"Cache-Control", b"no-store"),)
        client.route.header_names = frozenset((b"cache-control",))
    out = await pair.other.ask(GET)
    assert out.count(b"Cache-Control") == 1
    assert b"Cache-Control: no-store\r\n" in out
    entry = held(pair.other)
    assert entry is not None
    assert entry.fields.get(b"cache-control") == b"max-age=60, public"


async def test_what_passes_the_other_worker_keeps_its_tags(server: Server, pair: Pair) -> None:
    server.script = answering(answer(b"Cache-Control: private"), FRESH)
    await pair.owner.ask(GET)  # from now on it passes there
    await pair.other.ask(GET)
    entry = held(pair.other)
    assert entry is not None
    assert entry.tags == (b"t",)
    assert held(pair.owner) is None


async def test_what_is_stale_is_validated_with_the_other_worker(server: Server, pair: Pair) -> None:
    fresh = answer(b'Cache-Control: max-age=60, public\r\nETag: "a"\r\nCache-Tag: t')
    changed = b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nCache-Tag: u\r\n\r\n'
    server.script = answering(fresh, changed)
    await pair.other.ask(GET)
    for client in (pair.other, pair.owner):
        later(client, 70)
    out = await pair.other.ask(GET)
    assert out.endswith(b"hello")
    assert status_of(out) == b"proxyd; fwd=stale; fwd-status=304; ttl=59; stored"
    entry = held(pair.other)
    assert entry is not None
    assert entry.tags == (b"u",)
    assert b'If-None-Match: "a"' in server.heads[1]


async def test_what_the_other_worker_has_validated_is_a_hit(server: Server, pair: Pair) -> None:
    fresh = answer(b'Cache-Control: max-age=60, public\r\nETag: "a"')
    changed = b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\n\r\n'
    server.script = answering(fresh, changed)
    await pair.other.ask(GET)
    for client in (pair.other, pair.owner):
        later(client, 70)
    await pair.owner.ask(GET)
    out = await pair.other.ask(GET)
    assert out.endswith(b"hello")
    assert status_of(out).startswith(b"proxyd; hit; ttl=")
    assert len(server.heads) == 2


async def test_an_error_of_the_other_worker_goes_to_all_who_wait(
    server: Server, pair: Pair
) -> None:
    server.path.unlink()
    third = another(pair.other)
    pair.other.send(GET)
    third.send(GET)
    await until(lambda: len(pair.other.wire.log.lines) == 2)
    for client in (pair.other, third):
        out = client.transport.take()
        assert out.startswith(b"HTTP/1.1 502 ")
        assert b"Cache-Status" not in out
    third.leave()


async def test_what_caches_behind_us_say_is_passed_on(server: Server, pair: Pair) -> None:
    server.script = answering(
        answer(b"Cache-Control: max-age=60\r\nCache-Status: inner; hit; ttl=5")
    )
    out = await pair.other.ask(GET)
    assert status_of(out) == (
        b"inner; hit; ttl=5, proxyd; fwd=uri-miss; fwd-status=200; ttl=59; stored"
    )


async def test_an_error_of_the_upstream_is_told_as_such(server: Server, pair: Pair) -> None:
    server.script = answering(answer(b"", b"oops", status=b"503 Busy"))
    out = await pair.other.ask(GET)
    assert out.endswith(b"oops")
    assert status_of(out) == b"proxyd; fwd=uri-miss; fwd-status=503; stored=?0"


async def test_who_waits_for_the_other_worker_asks_when_the_answer_is_one_clients_own(
    server: Server, pair: Pair
) -> None:
    """Nobody waits for the second answer, which is for the client that asked first there."""
    own = answer(b"Cache-Control: private\r\nVary: Accept")
    server.script = waiting(own)
    pair.owner.send(GET)
    await until(lambda: len(server.heads) == 1)
    third, fourth = another(pair.other), another(pair.other)
    for client in (pair.other, third, fourth):
        client.send(GET)
    await until(lambda: len(pair.owner.wire.service.connections) == 2)
    server.go_on.set()
    await pair.owner.done()
    server.go_on.clear()
    await until(lambda: len(server.heads) == 4)
    fifth = another(pair.other)
    fifth.send(GET)
    await until(lambda: len(server.heads) == 5)
    server.go_on.set()
    await until(lambda: len(pair.other.wire.log.lines) == 4)
    for client in (pair.other, third, fourth, fifth):
        assert client.transport.take().endswith(b"hello")
    for client in (third, fourth, fifth):
        client.leave()


async def test_what_the_other_worker_knows_to_be_one_clients_own_nobody_waits_for(
    server: Server, pair: Pair
) -> None:
    server.script = waiting(answer(b"Cache-Control: private"))
    server.go_on.set()
    await pair.owner.ask(GET)
    server.go_on.clear()
    clients = [pair.other, another(pair.other), another(pair.other)]
    for client in clients:
        client.send(GET)
    await until(lambda: len(server.heads) == 4)
    server.go_on.set()
    await until(lambda: len(pair.other.wire.log.lines) == 3)
    for client in clients:
        assert client.transport.take().endswith(b"hello")
    # What is asked meanwhile of the worker that knows, by who does not, is passed on there, too.
    late = cached(server)
    late.wire.site.siblings = pair.other.wire.site.siblings
    assert (await late.ask(GET)).endswith(b"hello")
    await close(late)
    for client in clients[1:]:
        client.leave()


async def test_what_a_soft_purge_made_stale_at_the_other_worker_is_stale_here(
    server: Server, pair: Pair
) -> None:
    server.script = answering(
        answer(b"Cache-Control: max-age=60, stale-while-revalidate=60, public")
    )
    await pair.owner.ask(GET)
    entry = held(pair.owner)
    assert entry is not None
    entry.fresh_until = entry.born_at - 1
    assert status_of(await pair.other.ask(GET)).startswith(b"proxyd; hit; ttl=-")
    entry = held(pair.other)
    assert entry is not None
    assert entry.fresh_until < entry.born_at < entry.swr_until


async def test_what_the_other_worker_refuses_is_asked_for_here(server: Server, pair: Pair) -> None:
    """A head that is just small enough for clients is too large with what a worker puts to it."""
    limits = pair.owner.wire.service.limits
    size = limits.header_bytes - 100
    for _ in range(2):
        out = await pair.other.ask(asking(b"X: " + b"x" * size))
        assert out.endswith(b"hello")
    assert len(server.heads) == 1
    assert held(pair.owner) is None


def test_a_key_always_has_the_same_worker() -> None:
    routes = [None, Route("b", forward), Route("c", forward)]
    keys = [b"http://h/%d" % number for number in range(300)]
    ways = [Siblings(routes).route_for(key) for key in keys]
    assert ways == [Siblings(list(routes)).route_for(key) for key in keys]
    assert all(60 < ways.count(route) < 140 for route in routes)


def test_what_an_asker_says_is_without_fields_of_the_hop() -> None:
    asking_ = Asking()
    peer = Peer("2001:db8::1", 1, "2001:db8::2", 443, b"https", True)
    peer.certificate = ((b"X-Client", b"caf\xe9"),)
    asking_.exchange.peer = peer
    request = Request(b"GET", b"/", 1, Fields([(b"Connection", b"x")]), b"/", None, b"h", b"h")
    sent = asked_inside(asking_.exchange, request)
    assert b"connection" not in sent.fields
    assert sent.fields.get(b"host") == b"h"


async def test_slices_are_fetched_once_for_both(server: Server, pair: Pair) -> None:
    film = Film()
    server.script = film.script
    for client in (pair.owner, pair.other):
        client.route.cache = CacheRule(slice_bytes=100)
    out = await pair.other.ask(GET)
    assert out.endswith(b"\r\n\r\n" + film.content)
    assert (await pair.owner.ask(asking(b"Range: bytes=150-249"))).endswith(film.content[150:250])
    assert film.asked == [b"0", b"100", b"200"]
    assert pair.owner.wire.log.lines == [(b"/a?b", 206)]
