"""Answers that broke off are kept as such, and completed by range. RFC 9111 §3.3, §3.4."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.cache.entry import Entry
from proxy.cache.purges import Kind, Purges, Verdict
from tests.pipeline.bodies import until
from tests.pipeline.caching import answer, asking, cached, held, later, status_of
from tests.pipeline.upstreams import GET, Client, Script, Server, close

ABOUT = b'Cache-Control: max-age=60, stale-if-error=60\r\nETag: "a"'
REST = b"HTTP/1.1 206 Partial Content\r\n" + ABOUT + b"\r\n"


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    client = cached(server)
    yield client
    await close(client)


def breaking(*answers: bytes, about: bytes = ABOUT, first: bytes = b"abc") -> Script:
    """Break off the first answer, of ten bytes, behind `first`; then answer with `answers`."""
    left = list(answers)
    broken: list[bool] = []

    async def script(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while True:
            await server.take(reader)
            if broken:
                writer.write(left.pop(0) if len(left) > 1 else left[0])
                continue
            broken.append(True)
            writer.write(b"HTTP/1.1 200 OK\r\n" + about + b"\r\nContent-Length: 10\r\n\r\n" + first)
            await server.go_on.wait()
            writer.close()
            return

    return script


def rest(where: bytes = b"3-9/10", content: bytes = b"defghij", head: bytes = REST) -> bytes:
    return head + b"Content-Range: bytes %b\r\nContent-Length: %d\r\n\r\n%b" % (
        where,
        len(content),
        content,
    )


async def break_off(server: Server, client: Client, content: bytes = b"abc") -> Entry | None:
    server.go_on.clear()
    before = len(client.wire.log.lines)
    client.send(GET)
    await client.says(content)
    server.go_on.set()
    await client.done(before + 1)
    assert client.transport.is_closing()
    client.wire = client.wire.beside()
    client.transport = client.wire.transport
    return held(client)


async def test_the_rest_is_asked_for_and_put_to_it(server: Server, client: Client) -> None:
    server.script = breaking(rest())
    entry = await break_off(server, client)
    assert entry is not None
    assert not entry.complete
    assert entry.body == b"abc"
    out = await client.ask(GET)
    assert b"Range: bytes=3-9\r\n" in server.heads[1]
    assert b'If-Range: "a"\r\n' in server.heads[1]
    assert out.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Length: 10\r\n" in out
    assert b"Content-Range" not in out
    assert out.endswith(b"\r\n\r\nabcdefghij")
    assert status_of(out) == b"proxyd; fwd=partial; fwd-status=206; ttl=59; stored"
    out = client.wire.send(GET)
    assert out.endswith(b"\r\n\r\nabcdefghij")
    assert status_of(out).startswith(b"proxyd; hit; ")
    assert len(server.heads) == 2


async def test_a_rest_that_comes_bit_by_bit_is_joined(server: Server, client: Client) -> None:
    async def script(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.take(reader)
        if len(server.heads) == 1:
            head = b"HTTP/1.1 200 OK\r\n" + ABOUT
            writer.write(head + b"\r\nContent-Length: 10\r\n\r\nabc")
            await server.go_on.wait()
            writer.close()
            return
        writer.write(rest()[:-3])
        await server.go_on.wait()
        writer.write(rest()[-3:])

    server.script = script
    await break_off(server, client)
    server.go_on.clear()
    client.send(GET)
    await client.says(b"abcdefg")
    server.go_on.set()
    assert (await client.done(2)).endswith(b"\r\n\r\nabcdefghij")
    entry = held(client)
    assert entry is not None
    assert entry.complete


async def test_a_rest_that_breaks_off_is_kept_as_well(server: Server, client: Client) -> None:
    async def script(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.take(reader)
        if len(server.heads) == 1:
            head = b"HTTP/1.1 200 OK\r\n" + ABOUT
            writer.write(head + b"\r\nContent-Length: 10\r\n\r\nabc")
        elif len(server.heads) == 2:
            writer.write(rest()[:-3])
        else:
            writer.write(rest(b"7-9/10", b"hij"))
            return
        await server.go_on.wait()
        writer.close()

    server.script = script
    await break_off(server, client)
    entry = await break_off(server, client, b"abcdefg")
    assert entry is not None
    assert entry.body == b"abcdefg"
    assert (await client.ask(GET)).endswith(b"\r\n\r\nabcdefghij")
    assert b"Range: bytes=7-9\r\n" in server.heads[2]


@pytest.mark.parametrize(
    "said",
    [
        rest(head=REST.replace(b'"a"', b'"b"')),
        rest(b"4-9/10", b"efghij"),
        rest(b"3-8/10", b"defghi"),
        rest(b"3-9/11"),
        rest(b"nonsense"),
        rest(head=REST.replace(b"\r\nETag", b"\r\nX")),
        b"HTTP/1.1 206 Partial Content\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 416 Nope\r\nContent-Range: bytes */2\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_a_part_of_something_else_is_not_put_to_it(
    server: Server, client: Client, said: bytes
) -> None:
    server.script = breaking(said, answer(ABOUT, b"other"))
    await break_off(server, client)
    assert (await client.ask(GET)).endswith(b"\r\n\r\nother")
    assert b"Range" not in server.heads[2]
    assert len(server.heads) == 3
    assert client.wire.send(GET).endswith(b"other")


async def test_what_is_another_one_by_now_comes_as_a_whole(server: Server, client: Client) -> None:
    server.script = breaking(answer(ABOUT.replace(b'"a"', b'"b"'), b"other"))
    await break_off(server, client)
    assert (await client.ask(GET)).endswith(b"\r\n\r\nother")
    assert len(server.heads) == 2


@pytest.mark.parametrize(
    "about",
    [
        b"Cache-Control: max-age=60",
        b'Cache-Control: max-age=60\r\nETag: W/"a"',
        b'Cache-Control: private\r\nETag: "a"',
    ],
)
async def test_without_a_strong_validator_nothing_is_kept(
    server: Server, client: Client, about: bytes
) -> None:
    server.script = breaking(answer(ABOUT), about=about)
    assert await break_off(server, client) is None
    await client.ask(GET)
    assert b"Range" not in server.heads[1]


async def test_only_a_200_is_completed(server: Server, client: Client) -> None:
    async def script(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.take(reader)
        writer.write(b"HTTP/1.1 404 No\r\n" + ABOUT + b"\r\nContent-Length: 10\r\n\r\nabc")
        await server.go_on.wait()
        writer.close()

    server.script = script
    assert await break_off(server, client) is None


async def test_what_broke_off_is_never_served(server: Server, client: Client) -> None:
    oops = answer(b"", b"oops", status=b"503 Service Unavailable")
    server.script = breaking(oops)
    await break_off(server, client)
    out = client.wire.send(asking(b"Cache-Control: only-if-cached"))
    assert out.startswith(b"HTTP/1.1 504 ")
    assert (await client.ask(GET)).endswith(b"oops")  # stale-if-error or not
    out = await client.ask(asking(method=b"HEAD"))
    assert out.startswith(b"HTTP/1.1 503 ")


async def test_a_head_does_not_make_it_complete(server: Server, client: Client) -> None:
    head = b"HTTP/1.1 200 OK\r\n" + ABOUT + b"\r\nContent-Length: 10\r\n\r\n"
    server.script = breaking(head, rest())
    entry = await break_off(server, client)
    await client.ask(asking(method=b"HEAD"))
    assert entry is not None
    assert entry.no_cache
    assert (await client.ask(GET)).endswith(b"abcdefghij")


async def test_what_is_whole_is_not_given_up_for_a_part(server: Server, client: Client) -> None:
    async def script(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.take(reader)
        if len(server.heads) == 1:
            writer.write(answer(ABOUT, b"whole"))
            await server.take(reader)
        head = b"HTTP/1.1 200 OK\r\n" + ABOUT.replace(b'"a"', b'"b"')
        writer.write(head + b"\r\nContent-Length: 10\r\n\r\nabc")
        await server.go_on.wait()
        writer.close()

    server.script = script
    await client.ask(GET)
    later(client, 70)
    entry = await break_off(server, client)
    assert entry is not None
    assert entry.body == b"whole"


async def test_what_is_purged_is_not_completed(
    server: Server, client: Client, tmp_path: Path
) -> None:
    cache = client.wire.site.cache
    assert cache is not None
    cache.purges = purges = Purges(tmp_path)
    server.script = breaking(answer(ABOUT, b"other"))
    await break_off(server, client)
    purges.add(Kind.ALL, Verdict.HARD)
    assert (await client.ask(GET)).endswith(b"other")
    assert b"Range" not in server.heads[1]
    purges.close()


async def test_a_client_that_leaves_leaves_a_part_behind(server: Server, client: Client) -> None:
    async def script(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.take(reader)
        head = b"HTTP/1.1 200 OK\r\n" + ABOUT
        writer.write(head + b"\r\nContent-Length: 10000000\r\n\r\nabc")
        await server.go_on.wait()

    cache = client.wire.site.cache
    assert cache is not None
    cache.memory_object_bytes = 1 << 30
    server.script = script
    client.send(GET)
    await client.says(b"abc")
    client.leave()
    await until(lambda: held(client) is not None)
    entry = held(client)
    assert entry is not None
    assert entry.body == b"abc"
    server.go_on.set()
