"""Clients who ask for one thing at one time: who waits for whom, and what becomes of each."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from time import monotonic, time

import pytest

from proxy.cache.purges import Kind, Purges, Verdict
from proxy.pipeline.fetch import Fetch
from proxy.rules.cache_rule import CacheRule, Conditions, FieldTest
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

PRIVATE = answer(b"Cache-Control: private")


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    server.script = answering(FRESH)
    client = cached(server)
    yield client
    await close(client)


@pytest.fixture
def purges(client: Client, tmp_path: Path) -> Iterator[Purges]:
    cache = client.wire.site.cache
    assert cache is not None
    cache.purges = made = Purges(tmp_path)
    yield made
    made.close()


async def both(client: Client, server: Server, first: bytes, second: bytes) -> tuple[bytes, bytes]:
    """Have the second request come while the first is with the upstream."""
    other = another(client)
    client.send(first)
    await until(lambda: len(server.heads) == 1)
    other.send(second)
    server.go_on.set()
    await until(lambda: len(client.wire.log.lines) == 2)
    out = client.transport.take(), other.transport.take()
    other.leave()
    return out


async def test_who_asks_after_a_purge_does_not_get_what_was_asked_before_it(
    server: Server, client: Client, purges: Purges
) -> None:
    server.script = waiting(FRESH, answer(b"Cache-Control: max-age=60", b"new"))
    other = another(client)
    client.send(GET)
    await until(lambda: len(server.heads) == 1)
    purges.add(Kind.URL, Verdict.HARD, b"http://h/a?b")
    other.send(GET)
    server.go_on.set()
    await until(lambda: len(client.wire.log.lines) == 2)
    assert client.transport.take().endswith(b"hello")
    assert other.transport.take().endswith(b"new")
    other.leave()


async def test_who_asks_after_a_purge_of_something_else_waits_with_the_others(
    server: Server, client: Client, purges: Purges
) -> None:
    server.script = waiting(FRESH)
    other = another(client)
    client.send(GET)
    await until(lambda: len(server.heads) == 1)
    purges.add(Kind.URL, Verdict.HARD, b"http://h/elsewhere")
    other.send(GET)
    server.go_on.set()
    await until(lambda: len(client.wire.log.lines) == 2)
    assert other.transport.take().endswith(b"hello")
    assert len(server.heads) == 1
    other.leave()


async def test_who_asks_after_a_purge_does_not_get_what_was_validated_before_it(
    server: Server, client: Client, purges: Purges
) -> None:
    server.script = waiting(
        answer(b'Cache-Control: max-age=60\r\nETag: "a"'),
        b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nCache-Control: max-age=60\r\n\r\n',
        answer(b'Cache-Control: max-age=60\r\nETag: "b"', b"new"),
    )
    server.go_on.set()
    await client.ask(GET)
    later(client, 70)
    server.go_on.clear()
    other = another(client)
    client.send(GET)
    await until(lambda: len(server.heads) == 2)
    purges.add(Kind.ALL, Verdict.HARD)
    other.send(GET)
    server.go_on.set()
    await until(lambda: len(client.wire.log.lines) == 3)
    assert client.transport.take().endswith(b"hello")
    assert other.transport.take().endswith(b"new")
    other.leave()


async def test_a_stream_that_was_purged_is_not_joined(
    server: Server, client: Client, purges: Purges
) -> None:
    async def script(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.take(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\n")
        writer.write(b"Content-Length: 6\r\n\r\nabc")
        await server.go_on.wait()
        writer.write(b"def")

    server.script = script
    client.send(GET)
    await client.says(b"abc")
    purges.add(Kind.URL, Verdict.SOFT, b"http://h/a?b")
    other = another(client)
    other.send(GET)
    await until(lambda: len(server.heads) == 2)
    server.go_on.set()
    await until(lambda: len(client.wire.log.lines) == 2)
    other.leave()


async def test_what_was_purged_does_not_stand_in_for_an_error(
    server: Server, client: Client, purges: Purges
) -> None:
    server.script = waiting(
        answer(b"Cache-Control: max-age=60, stale-if-error=60"),
        answer(b"", status=b"503 Service Unavailable"),
    )
    server.go_on.set()
    await client.ask(GET)
    later(client, 70)
    server.go_on.clear()
    client.send(GET)
    await until(lambda: len(server.heads) == 2)
    purges.add(Kind.ALL, Verdict.HARD)
    server.go_on.set()
    assert (await client.done(2)).startswith(b"HTTP/1.1 503 ")


async def test_a_private_page_does_not_scatter_those_who_have_not_signed_in(
    server: Server, client: Client
) -> None:
    async def script(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            await server.take(reader)
            await server.go_on.wait()
            writer.write(PRIVATE if b"Cookie" in server.heads[-1] else FRESH)

    server.script = script
    server.go_on.set()
    await client.ask(asking(b"Cookie: s=1"))
    server.go_on.clear()
    server.heads.clear()
    others = [another(client) for _ in range(3)]
    for other in others:
        other.send(GET)
    await until(lambda: server.heads)
    server.go_on.set()
    await until(lambda: len(client.wire.log.lines) == 4)
    assert len(server.heads) == 1
    for other in others:
        other.leave()


async def test_people_whose_pages_are_private_do_not_wait_for_one_another(
    server: Server, client: Client
) -> None:
    server.script = waiting(PRIVATE)
    server.go_on.set()
    await client.ask(asking(b"Cookie: s=0"))
    server.go_on.clear()
    others = [another(client) for _ in range(3)]
    for number, other in enumerate(others, 1):
        other.send(asking(b"Cookie: s=%d" % number))
    await until(lambda: len(server.heads) == 4)
    server.go_on.set()
    await until(lambda: len(client.wire.log.lines) == 4)
    for other in others:
        other.leave()


async def test_who_is_authorized_gets_no_page_of_those_who_are_not(
    server: Server, client: Client
) -> None:
    server.script = answering(FRESH, answer(b"Cache-Control: max-age=60", b"secret"))
    assert (await client.ask(GET)).endswith(b"hello")
    for _ in range(2):
        out = await client.ask(asking(b"Authorization: Basic eA=="))
        assert out.endswith(b"secret")
        assert status_of(out).startswith(b"proxyd; fwd=vary-miss; fwd-status=200")
    assert client.wire.send(GET).endswith(b"hello")
    assert len(server.heads) == 3


async def test_who_is_authorized_shares_what_is_for_all(server: Server, client: Client) -> None:
    server.script = answering(answer(b"Cache-Control: public, max-age=60"))
    await client.ask(asking(b"Authorization: Basic eA=="))
    assert client.wire.send(GET).endswith(b"hello")
    assert client.wire.send(asking(b"Authorization: Basic eQ==")).endswith(b"hello")
    assert len(server.heads) == 1


async def test_a_validation_for_one_person_leaves_what_is_stored(
    server: Server, client: Client
) -> None:
    targeted = b"CDN-Cache-Control: max-age=60\r\n"
    server.script = answering(
        answer(targeted + b'ETag: "a"'),
        b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nX: y\r\n\r\n',
        answer(targeted + b'ETag: "b"', b"new"),
    )
    await client.ask(GET)
    later(client, 70)
    entry = held(client)
    assert (await client.ask(asking(b"Authorization: Basic eA=="))).endswith(b"hello")
    assert held(client) is entry
    assert entry is not None
    assert b"x" not in entry.fields
    later(client, 70)
    await client.ask(asking(b"Authorization: Basic eA=="))
    assert held(client) is entry


@pytest.mark.parametrize(
    "field",
    [b"Cache-Control: no-store", b'If-Match: "a"', b"If-Unmodified-Since: x", b"X-No: store"],
)
async def test_what_is_for_one_client_alone_leaves_the_store_to_the_others(
    server: Server, field: bytes
) -> None:
    rule = CacheRule(no_store=Conditions(headers=(FieldTest(b"x-no", None),)))
    client = cached(server, rule)
    server.script = answering(answer(b"Cache-Control: max-age=60, stale-while-revalidate=60"))
    alone = asking(field)
    out = await client.ask(alone)
    assert status_of(out) == b"proxyd; fwd=uri-miss; fwd-status=200"
    assert field in server.heads[0]
    assert held(client) is None
    await client.ask(GET)
    entry = held(client)
    assert client.wire.send(alone).endswith(b"hello")  # it is no less stored for that
    later(client, 70)
    client.wire.send(alone)
    assert len(server.heads) == 2  # nor is it refreshed
    later(client, 60)
    assert status_of(await client.ask(alone)).startswith(b"proxyd; fwd=stale; ")
    assert held(client) is entry
    await close(client)


async def test_who_differs_in_what_it_varies_by_asks_for_its_own(
    server: Server, client: Client
) -> None:
    vary = b"Cache-Control: public, max-age=60\r\nVary: Accept-Language"
    server.script = waiting(answer(vary))
    out = await both(client, server, asking(b"Accept-Language: en"), asking(b"Accept-Language: de"))
    assert b"collapsed" not in out[1]
    assert status_of(out[1]).startswith(b"proxyd; fwd=vary-miss; fwd-status=200")
    assert len(server.heads) == 2


async def test_who_waited_for_another_variant_and_finds_its_own_is_as_old_as_that(
    server: Server, client: Client
) -> None:
    vary = b"Cache-Control: public, max-age=60\r\nVary: Accept-Language"
    server.script = waiting(answer(vary))
    others = [another(client) for _ in range(2)]
    client.send(asking(b"Accept-Language: en"))
    await until(lambda: len(server.heads) == 1)
    for other in others:
        assert other.wire.connection.exchange is None
        other.send(asking(b"Accept-Language: de"))
        exchange = other.wire.connection.exchange
        assert exchange is not None
        exchange.began_at -= 10
    server.go_on.set()
    await until(lambda: len(client.wire.log.lines) == 3)
    assert len(server.heads) == 2
    for other in others:
        assert b"Age: -" not in other.transport.take()
        other.leave()


async def test_each_says_why_it_went_forward(server: Server, client: Client) -> None:
    server.script = waiting(FRESH)
    server.go_on.set()
    await client.ask(GET)
    later(client, 30)
    server.go_on.clear()
    server.heads.clear()
    client.wire.log.lines.clear()
    other = another(client)
    client.send(asking(b"Cache-Control: no-cache"))
    await until(lambda: len(server.heads) == 1)
    later(client, 60)
    other.send(GET)
    server.go_on.set()
    await until(lambda: len(client.wire.log.lines) == 2)
    assert status_of(client.transport.take()).startswith(b"proxyd; fwd=request; ")
    assert status_of(other.transport.take()).startswith(b"proxyd; fwd=stale; ")
    other.leave()


async def test_a_client_that_has_left_breaks_nothing_for_who_asks_next(
    server: Server, client: Client
) -> None:
    server.script = waiting(FRESH)
    other = another(client)
    client.send(GET)
    await until(lambda: len(server.heads) == 1)
    client.leave()
    other.send(GET)  # before the loop has let the fetch go
    server.go_on.set()
    await until(lambda: len(client.wire.log.lines) == 2)
    assert other.transport.take().endswith(b"hello")
    other.leave()


async def test_who_asks_when_the_last_one_has_left_asks_anew(
    server: Server, client: Client
) -> None:
    server.script = waiting(FRESH)
    other = another(client)
    client.send(GET)
    await until(lambda: len(server.heads) == 1)
    exchange = client.wire.connection.exchange
    assert exchange is not None
    assert exchange.task is not None
    exchange.task.cancel()
    other.send(GET)
    server.go_on.set()
    await until(lambda: len(client.wire.log.lines) == 2)
    assert other.transport.take().endswith(b"hello")
    assert len(server.heads) == 2
    assert not client.wire.site.cache.flights  # type: ignore[union-attr]
    other.leave()


async def test_an_answer_that_comes_as_the_last_one_leaves_is_kept(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    give_up = Fetch._give_up
    late: list[Fetch] = []

    def not_yet(fetch: Fetch) -> None:
        late.append(fetch)

    monkeypatch.setattr(Fetch, "_give_up", not_yet)
    server.script = waiting(FRESH)
    client.send(GET)
    await until(lambda: server.heads)
    client.leave()
    await until(lambda: late)
    server.go_on.set()
    await until(lambda: held(client) is not None)
    give_up(late[0])
    assert held(client) is not None
    await client.done()


async def test_interim_answers_go_to_all_who_wait(server: Server, client: Client) -> None:
    server.script = waiting(b"HTTP/1.1 103 Early Hints\r\nLink: <x>\r\n\r\n" + FRESH)
    for out in await both(client, server, GET, GET):
        assert out.startswith(b"HTTP/1.1 103 ")
        assert out.endswith(b"hello")


async def test_an_answer_of_one_client_that_has_left_goes_to_nobody_else(
    server: Server, client: Client
) -> None:
    large = b"Cache-Control: private\r\nSet-Cookie: a=b"
    server.script = waiting(answer(large, b"x" * 500_000))
    other = another(client)
    client.send(GET)
    other.send(GET)
    await until(lambda: len(server.heads) == 1)
    client.leave()
    await client.done()
    server.go_on.set()
    await until(lambda: len(client.wire.log.lines) == 2)
    assert len(server.heads) == 2
    assert other.transport.take().endswith(b"x" * 500_000)
    other.leave()
    await until(lambda: client.group.connections <= 1)


async def test_one_failure_of_the_upstream_is_one_line_in_the_log(
    server: Server, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    async def script(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.take(reader)
        await server.go_on.wait()
        writer.write(b"nonsense\r\n\r\n")

    server.script = script
    others = [another(client) for _ in range(3)]
    for one in (client, *others):
        one.send(GET)
    await until(lambda: server.heads)
    server.go_on.set()
    await until(lambda: len(client.wire.log.lines) == 4)
    assert {status for _, status in client.wire.log.lines} == {502}
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    for other in others:
        other.leave()


async def test_a_failure_in_the_middle_leaves_nobody_waiting(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("proxy.pipeline.fetch.judge_answer", broken)
    server.script = waiting(answer(b"Cache-Control: max-age=60", b"x" * 500_000))
    for out in await both(client, server, GET, GET):
        assert out.endswith(b"x" * 500_000)
        assert status_of(out) == b"proxyd; fwd=uri-miss; fwd-status=200"
    assert not client.wire.site.cache.flights  # type: ignore[union-attr]
    await until(lambda: client.group.connections <= 2)


async def test_a_failure_while_it_is_handed_out_leaves_nobody_waiting(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object, **_others: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("proxy.pipeline.fetch.with_fields", broken)
    server.script = waiting(answer(b"Cache-Control: max-age=60", b"x" * 500_000))
    out = await both(client, server, GET, GET)
    assert out[1].endswith(b"x" * 500_000)
    assert not client.wire.site.cache.flights  # type: ignore[union-attr]


@pytest.mark.parametrize("jump_s", [-86_400, 86_400])
async def test_a_clock_that_jumps_meanwhile_changes_nothing_of_how_old_an_answer_is(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch, jump_s: int
) -> None:
    server.script = waiting(FRESH)
    client.send(GET)
    await until(lambda: len(server.heads) == 1)
    now, wall = monotonic() + 5.0, time() + jump_s  # it takes five seconds
    monkeypatch.setattr("proxy.pipeline.fetch.monotonic", lambda: now)
    monkeypatch.setattr("proxy.pipeline.fetch.time", lambda: wall)
    server.go_on.set()
    await until(lambda: len(client.wire.log.lines) == 1)
    entry = held(client)
    assert entry is not None
    assert entry.born_at == pytest.approx(now - 5.0, abs=1.0)
    assert entry.fresh_until == entry.born_at + 60
