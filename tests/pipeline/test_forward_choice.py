"""Forwarding to groups with several servers: retries elsewhere, sticky cookies, hashes."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.message import Fields, Request
from proxy.upstream.address import UnixAddress
from proxy.upstream.group import Group
from proxy.upstream.options import GroupOptions
from proxy.upstream.server import Balance
from tests.pipeline.upstreams import GET, OK, Client, Server, answering


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[Server]:
    server = Server(path)
    listener = await asyncio.start_unix_server(server.serve, str(path))
    try:
        yield server
    finally:
        listener.close()
        for task in server.tasks:
            if task is not None:
                task.cancel()
        await asyncio.gather(*filter(None, server.tasks), return_exceptions=True)


async def breaking(
    server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Take one request, and leave without an answer."""
    await server.take(reader)
    writer.close()


def client_of(*servers: Server, options: GroupOptions | None = None) -> Client:
    client = Client(servers[0])
    addresses = [UnixAddress(server.path) for server in servers]
    client.group = client.route.group = Group("demo", addresses, options or GroupOptions())
    return client


def request(method: str, *lines: str, body: str = "") -> bytes:
    head = "".join(f"{line}\r\n" for line in (f"{method} /a HTTP/1.1", "Host: h", *lines))
    return f"{head}\r\n{body}".encode()


async def test_a_get_goes_to_another_server_when_one_breaks_off(tmp_path: Path) -> None:
    async with serving(tmp_path / "1") as bad, serving(tmp_path / "2") as good:
        bad.script = breaking
        client = client_of(bad, good)
        assert b" 200 OK" in await client.ask(GET)
        assert (len(bad.heads), len(good.heads)) == (1, 1)
        client.group.close()


async def test_content_that_was_taken_in_full_is_sent_again(tmp_path: Path) -> None:
    async with serving(tmp_path / "1") as bad, serving(tmp_path / "2") as good:
        bad.script = breaking
        client = client_of(bad, good)
        said = await client.ask(request("PUT", "Content-Length: 4", body="data"))
        assert b" 200 OK" in said
        assert good.contents == [b"data"]
        client.group.close()


async def test_a_post_is_not_sent_to_a_second_server(tmp_path: Path) -> None:
    async with serving(tmp_path / "1") as bad, serving(tmp_path / "2") as good:
        bad.script = breaking
        client = client_of(bad, good)
        said = await client.ask(request("POST", "Content-Length: 4", body="data"))
        assert b" 502 " in said
        assert good.heads == []
        client.group.close()


@pytest.mark.parametrize("options", [GroupOptions(retries=0), GroupOptions(retry_budget_percent=0)])
async def test_without_retries_the_failure_is_the_answer(
    tmp_path: Path, options: GroupOptions
) -> None:
    async with serving(tmp_path / "1") as bad, serving(tmp_path / "2") as good:
        bad.script = breaking
        client = client_of(bad, good, options=options)
        assert b" 502 " in await client.ask(GET)
        assert good.heads == []
        client.group.close()


async def test_a_request_that_kills_servers_does_not_kill_them_all(tmp_path: Path) -> None:
    async with (
        serving(tmp_path / "1") as one,
        serving(tmp_path / "2") as two,
        serving(tmp_path / "3") as three,
    ):
        one.script = two.script = three.script = breaking
        client = client_of(one, two, three)
        assert b" 502 " in await client.ask(GET)
        assert [len(server.heads) for server in (one, two, three)] == [1, 1, 0]
        client.group.close()


# ── Sticky cookies ───────────────────────────────────────────────────────────────────────────

STICKY = GroupOptions(sticky_cookie="srv")


def cookie_in(said: bytes) -> str | None:
    found = re.search(rb"\r\nSet-Cookie: (srv=[0-9a-f]{4}); ([^\r]*)\r\n", said)
    if found is None:
        return None
    assert found[2] == b"Path=/; HttpOnly; SameSite=Lax"
    return found[1].decode()


async def test_a_client_keeps_its_server(tmp_path: Path) -> None:
    async with serving(tmp_path / "1") as one, serving(tmp_path / "2") as two:
        client = client_of(one, two, options=STICKY)
        cookie = cookie_in(await client.ask(GET))
        assert cookie is not None
        for _ in range(5):
            assert cookie_in(await client.ask(request("GET", f"Cookie: a=b; {cookie}"))) is None
        assert (len(one.heads), len(two.heads)) == (6, 0)
        client.group.close()


async def test_clients_without_a_cookie_are_spread_and_each_gets_one(tmp_path: Path) -> None:
    async with serving(tmp_path / "1") as one, serving(tmp_path / "2") as two:
        client = client_of(one, two, options=STICKY)
        cookies = [cookie_in(await client.ask(GET)) for _ in range(6)]
        assert len(set(cookies)) == 2
        assert None not in cookies
        # The head of the first answer is not what the second client gets.
        assert cookies == [cookies[0], cookies[1]] * 3
        assert (len(one.heads), len(two.heads)) == (3, 3)
        client.group.close()


async def test_a_cookie_of_nobody_is_replaced(tmp_path: Path) -> None:
    async with serving(tmp_path / "1") as one, serving(tmp_path / "2") as two:
        client = client_of(one, two, options=STICKY)
        assert cookie_in(await client.ask(request("GET", "Cookie: srv=zzzz"))) is not None
        client.group.close()


async def test_a_client_whose_server_is_gone_gets_another_and_its_cookie(tmp_path: Path) -> None:
    async with serving(tmp_path / "1") as one, serving(tmp_path / "2") as two:
        client = client_of(one, two, options=STICKY)
        first, second = [cookie_in(await client.ask(GET)) for _ in range(2)]
        client.group.probed(0, False)
        assert cookie_in(await client.ask(request("GET", f"Cookie: {first}"))) == second
        assert len(two.heads) == 2
        client.group.close()


async def test_an_answer_with_content_has_the_cookie_too(tmp_path: Path) -> None:
    async with serving(tmp_path / "1") as one:
        client = client_of(one, options=STICKY)
        put = request("PUT", "Content-Length: 4", body="data")
        assert cookie_in(await client.ask(put)) is not None
        client.group.close()


async def test_what_is_fetched_for_several_clients_has_no_cookie(tmp_path: Path) -> None:
    group = Group("demo", [UnixAddress(tmp_path / "1")], STICKY)
    request = Request(b"GET", b"/", 1, Fields(), b"/", None, b"h", b"h")
    wanted = group.wish(request, "192.0.2.1", secure=False, own=False)
    assert not wanted.named


# ── Hashes ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("balance", "same", "other"),
    [
        (Balance(kind="hash", source="path"), GET, GET),
        (
            Balance(kind="hash", source="header", name="X-Shop"),
            request("GET", "x-shop: 1"),
            request("PUT", "X-SHOP: 1", "Content-Length: 1", body="x"),
        ),
        (
            Balance(kind="hash", source="cookie", name="shop"),
            request("GET", "Cookie: shop=1"),
            request("GET", "Cookie: a=b; shop=1"),
        ),
        (Balance(kind="hash", source="address"), GET, request("GET", "X-Shop: 7")),
        # without the header, the address
        (Balance(kind="hash", source="header", name="X-Shop"), GET, request("GET", "X: y")),
    ],
)
async def test_what_has_the_same_key_goes_to_the_same_server(
    tmp_path: Path, balance: Balance, same: bytes, other: bytes
) -> None:
    async with serving(tmp_path / "1") as one, serving(tmp_path / "2") as two:
        client = client_of(one, two, options=GroupOptions(balance=balance))
        for data in (same, other) * 3:
            assert OK[:15] in await client.ask(data)
        assert sorted([len(one.heads), len(two.heads)]) == [0, 6]
        client.group.close()


async def test_different_keys_are_spread(tmp_path: Path) -> None:
    async with serving(tmp_path / "1") as one, serving(tmp_path / "2") as two:
        one.script = two.script = answering()
        balance = Balance(kind="hash", source="header", name="X-Shop")
        client = client_of(one, two, options=GroupOptions(balance=balance))
        for number in range(20):
            await client.ask(request("GET", f"X-Shop: {number}"))
        assert len(one.heads) > 3
        assert len(two.heads) > 3
        client.group.close()
