"""Requests passed to a real upstream on a unix socket, answers back over the fake wire."""

import asyncio
from pathlib import Path

import pytest

from proxy.message import Fields
from proxy.pipeline.receive import WithTrailers
from proxy.upstream.address import UnixAddress
from proxy.upstream.group import Group
from proxy.upstream.options import GroupOptions
from tests.pipeline.bodies import Taken, until
from tests.pipeline.upstreams import BEGIN, GET, OK, Client, Script, Server, answering, close


def fields_of(head: bytes) -> dict[bytes, bytes]:
    lines = head.split(b"\r\n")[1:-2]
    return {name.lower(): value for name, _, value in (line.partition(b": ") for line in lines)}


async def test_a_request_is_written_anew_and_the_answer_passed_on(
    server: Server, client: Client
) -> None:
    out = await client.ask(GET)
    assert out == BEGIN + b"Via: 1.1 proxyd\r\nContent-Length: 2\r\n\r\nok"
    assert server.heads[0].startswith(b"GET /a?b HTTP/1.1\r\nHost: h\r\n")
    fields = fields_of(server.heads[0])
    assert fields[b"x-forwarded-for"] == b"192.0.2.1"
    assert fields[b"via"] == b"1.1 proxyd"
    assert fields[b"x-request-id"]
    assert b"content-length" not in fields


async def test_connections_to_the_upstream_are_used_again(server: Server, client: Client) -> None:
    for _ in range(3):
        await client.ask(GET)
    assert len(server.heads) == 3
    assert len(server.writers) == 1
    assert client.group.idle == 1


async def test_a_request_id_is_believed_from_who_is_trusted(server: Server, client: Client) -> None:
    request = b"GET / HTTP/1.1\r\nHost: h\r\nX-Request-ID: mine\r\n\r\n"
    await client.ask(request)
    client.wire.connection.peer.trusted = True
    await client.ask(request)
    ids = [fields_of(head)[b"x-request-id"] for head in server.heads]
    assert ids[0] != b"mine"
    assert ids[1] == b"mine"


@pytest.mark.parametrize(
    ("path", "target"), [(b"/app/x?y", b"/x?y"), (b"/app/", b"/"), (b"/app", b"/")]
)
async def test_the_prefix_of_a_route_can_be_taken_off(
    server: Server, client: Client, path: bytes, target: bytes
) -> None:
    client.route.strip_prefix = b"/app"
    await client.ask(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path)
    assert server.heads[0].startswith(b"GET %b HTTP/1.1\r\n" % target)
    assert fields_of(server.heads[0])[b"x-forwarded-prefix"] == b"/app"


async def test_max_forwards_of_options_is_counted_down(server: Server, client: Client) -> None:
    lines = b"Host: h\r\nMax-Forwards: 5\r\n\r\n"
    await client.ask(b"OPTIONS /a HTTP/1.1\r\n" + lines)
    await client.ask(b"GET /a HTTP/1.1\r\n" + lines)
    await client.ask(b"OPTIONS /a HTTP/1.1\r\n" + lines)
    counts = [fields_of(head)[b"max-forwards"] for head in server.heads]
    assert counts == [b"4", b"5", b"4"]


async def test_an_answer_that_requires_an_upgrade_says_to_what(
    server: Server, client: Client
) -> None:
    server.script = answering(
        b"HTTP/1.1 426 Upgrade Required\r\nConnection: upgrade\r\nUpgrade: chat\r\n"
        b"Content-Length: 0\r\n\r\n"
    )
    out = await client.ask(GET)
    assert b"\r\nUpgrade: chat\r\n" in out
    assert b"\r\nConnection: upgrade\r\n" in out


async def test_the_headers_of_a_route_replace_those_of_the_answer(
    server: Server, client: Client
) -> None:
    server.script = answering(b"HTTP/1.1 200 OK\r\nA: 1\r\nB: 2\r\nContent-Length: 0\r\n\r\n")
    client.route.headers = ((b"a", b"mine"),)
    client.route.header_names = frozenset((b"a",))
    out = await client.ask(GET)
    assert b"A: 1" not in out
    assert b"B: 2\r\n" in out
    assert b"a: mine\r\n" in out


async def test_the_date_and_the_reason_of_the_upstream_stay(server: Server, client: Client) -> None:
    server.script = answering(
        b"HTTP/1.1 299 Why not\r\nDate: yesterday\r\nContent-Length: 0\r\n\r\n"
    )
    client.send(GET)
    await until(lambda: client.wire.log.lines)
    assert client.transport.written.startswith(b"HTTP/1.1 299 Why not\r\n")
    assert client.transport.written.count(b"Date: ") == 1


@pytest.mark.parametrize(
    ("method", "answer", "lines"),
    [
        (b"HEAD", b"200 OK\r\nContent-Length: 7", b"200 OK\r\nContent-Length: 7"),
        (b"HEAD", b"200 OK\r\nTransfer-Encoding: chunked", b"200 OK"),
        (b"GET", b"304 Not Modified\r\nContent-Length: 7",
         b"304 Not Modified\r\nContent-Length: 7"),
        (b"GET", b"204 No Content\r\nContent-Length: 0", b"204 No Content"),
    ],
)  # fmt: skip
async def test_an_answer_without_content_keeps_what_it_says_of_it(
    server: Server, client: Client, method: bytes, answer: bytes, lines: bytes
) -> None:
    server.script = answering(b"HTTP/1.1 %b\r\n\r\n" % answer)
    request = b"%b / HTTP/1.1\r\nHost: h\r\n\r\n" % method
    out = await client.ask(request)
    via = b"Server: proxyd\r\nVia: 1.1 proxyd\r\n"
    status, _, rest = lines.partition(b"\r\n")
    assert out == b"HTTP/1.1 %b\r\n%b%b\r\n" % (status, via, rest + b"\r\n" if rest else b"")
    assert await client.ask(request) == out
    assert len(server.writers) == 1


# ── Content of requests ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("buffered", [True, False])
@pytest.mark.parametrize("size", [0, 1, 100_000, 1_000_000])
@pytest.mark.parametrize("chunked", [True, False])
async def test_content_reaches_the_upstream_whole(
    server: Server, client: Client, buffered: bool, size: int, chunked: bool, tmp_path: Path
) -> None:
    client.wire.site.temp_folder = str(tmp_path)
    client.route.buffer_request = buffered
    content = (b"0123456789" * 100_000)[:size]
    head = b"POST / HTTP/1.1\r\nHost: h\r\n"
    if chunked:
        client.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
        pieces = [content[at : at + 7000] for at in range(0, size, 7000)]
        coded = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        await client.feed(coded + b"0\r\n\r\n")
    else:
        client.send(head + b"Content-Length: %d\r\n\r\n" % size)
        await client.feed(content)
    assert (await client.done()).startswith(b"HTTP/1.1 200")
    assert server.contents[0].removesuffix(b"\r\n") == content
    fields = fields_of(server.heads[0])
    assert (b"content-length" in fields) != (b"transfer-encoding" in fields)
    if buffered or not chunked:
        assert fields[b"content-length"] == b"%d" % size


async def test_an_empty_request_that_says_so_says_so_upstream(
    server: Server, client: Client
) -> None:
    await client.ask(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
    assert fields_of(server.heads[0])[b"content-length"] == b"0"


@pytest.mark.parametrize("buffered", [True, False])
async def test_trailers_reach_the_upstream(server: Server, client: Client, buffered: bool) -> None:
    client.route.buffer_request = buffered
    client.send(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    await asyncio.sleep(0)
    client.send(b"0\r\nA: b\r\n\r\n")
    await client.done()
    assert fields_of(server.heads[0])[b"transfer-encoding"] == b"chunked"
    assert server.contents == [b"abcA: b\r\n"]


async def test_content_that_ends_while_a_connection_opens_is_framed_as_its_head_says(
    server: Server, client: Client
) -> None:
    client.route.buffer_request = False
    client.send(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    await asyncio.sleep(0)  # the head is written, the connection is not yet there
    client.send(b"0\r\n\r\n")
    assert (await client.done()).startswith(b"HTTP/1.1 200")
    assert fields_of(server.heads[0])[b"transfer-encoding"] == b"chunked"
    assert server.contents == [b"abc\r\n"]


async def test_an_upstream_that_answers_early_is_heard(server: Server, client: Client) -> None:
    async def script(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.head(reader)
        writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")

    server.script = script
    client.route.buffer_request = False
    out = await client.ask(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\nab")
    assert out.startswith(b"HTTP/1.1 403 ")
    assert b"Connection: close" in out
    await until(lambda: client.group.connections == 0)


async def answering_while_reading(
    server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Answer at once, with all that comes, in chunks; as `request.pipe(response)` in Node."""
    await server.head(reader)
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    left = 6
    while left:
        data = await reader.readexactly(3)
        writer.write(b"3\r\n%b\r\n" % data)
        left -= 3
    writer.write(b"0\r\n\r\n")


async def test_an_upstream_may_answer_while_it_reads(server: Server, client: Client) -> None:
    server.script = answering_while_reading
    client.route.buffer_request = False
    client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nabc")
    await client.says(b"3\r\nabc\r\n")
    client.send(b"def")
    assert (await client.done()).endswith(b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")


async def test_an_answer_that_began_early_breaks_off_with_its_request(
    server: Server, client: Client
) -> None:
    server.script = answering_while_reading
    client.route.buffer_request = False
    client.send(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
    await client.says(b"Transfer-Encoding: chunked\r\n")
    client.send(b"nonsense\r\n")
    assert not (await client.done()).endswith(b"0\r\n\r\n")
    assert client.transport.is_closing()
    await until(lambda: client.group.connections == 0)


async def test_a_client_may_leave_an_answer_that_began_early(
    server: Server, client: Client
) -> None:
    server.script = answering_while_reading
    client.route.buffer_request = False
    client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nabc")
    await client.says(b"3\r\nabc\r\n")
    client.leave()
    await client.done()
    await until(lambda: client.group.connections == 0)


async def test_an_upstream_that_takes_nothing_holds_its_client_back(
    server: Server, client: Client
) -> None:
    async def script(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.go_on.wait()
        await answering()(server, reader, writer)

    server.script = script
    client.route.buffer_request = False
    total = 20_000_000
    client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % total)
    sent = 0
    for _ in range(10_000):
        await asyncio.sleep(0)
        if client.transport.reading:
            client.send(b"x" * 50_000)
            sent += 50_000
            assert sent < 10_000_000
    server.go_on.set()
    await client.feed(b"x" * (total - sent))
    assert (await client.done()).startswith(b"HTTP/1.1 200")
    assert len(server.contents[0]) == total


async def test_an_upstream_that_leaves_while_it_is_sent_to_is_a_502(
    server: Server, client: Client
) -> None:
    async def script(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.head(reader)
        writer.transport.abort()

    server.script = script
    client.route.buffer_request = False
    client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5000000\r\n\r\n")
    out = b""
    for _ in range(100_000):
        if client.wire.log.lines:
            break
        if client.transport.reading:
            client.send(b"x" * 50_000)
        await asyncio.sleep(0)
    out = client.transport.take()
    assert out.startswith(b"HTTP/1.1 502 ")
    assert b"Connection: close" in out


async def test_content_over_its_limit_in_the_middle_gives_the_upstream_up(
    server: Server, client: Client
) -> None:
    client.route.buffer_request = False
    client.route.body_limit = 5
    client.send(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    await until(lambda: server.writers)
    client.send(b"3\r\nabc\r\n")
    assert (await client.done()).startswith(b"HTTP/1.1 413 ")
    await until(lambda: client.group.connections == 0)


# ── Content of answers ───────────────────────────────────────────────────────────────────────


def in_two(head: bytes, first: bytes, second: bytes) -> Script:
    """Answer with head and first part, and with the second part when told."""

    async def script(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.take(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\n" + first)
        await server.go_on.wait()
        writer.write(second)
        if not second:
            writer.close()

    return script


async def test_an_answer_of_unknown_length_goes_through_as_it_comes(
    server: Server, client: Client
) -> None:
    server.script = in_two(b"Transfer-Encoding: chunked", b"1\r\na\r\n", b"1\r\nb\r\n0\r\n\r\n")
    client.send(GET)
    await client.says(b"1\r\na\r\n")
    server.go_on.set()
    assert (await client.done()).endswith(b"\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n")
    assert client.group.idle == 1


async def test_an_answer_until_the_end_of_the_connection_is_chunked(
    server: Server, client: Client
) -> None:
    server.script = in_two(b"A: b", b"a", b"")
    client.send(GET)
    await client.says(b"1\r\na\r\n")
    server.go_on.set()
    assert (await client.done()).endswith(b"1\r\na\r\n0\r\n\r\n")


async def test_a_slow_client_does_not_hold_the_upstream(
    server: Server, client: Client, tmp_path: Path
) -> None:
    client.wire.site.temp_folder = str(tmp_path)
    size = 3_000_000
    server.script = in_two(b"Content-Length: %d" % size, b"x", b"x" * (size - 1))
    server.go_on.set()
    client.send(GET)
    await client.says(b"\r\n\r\n")
    client.wire.connection.pause_writing()
    await until(lambda: client.group.idle == 1)
    assert len(client.transport.written) < size
    client.wire.connection.resume_writing()
    out = await client.done()
    assert out.endswith(b"x" * size)


async def test_a_slow_client_holds_the_upstream_when_its_answer_is_not_buffered(
    server: Server, client: Client
) -> None:
    client.route.buffer_response = 0
    size = 20_000_000
    server.script = in_two(b"Content-Length: %d" % size, b"x", b"x" * (size - 1))
    server.go_on.set()
    client.send(GET)
    await client.says(b"\r\n\r\n")
    client.wire.connection.pause_writing()
    for _ in range(200):
        await asyncio.sleep(0)
    assert len(client.transport.written) < 2_000_000
    client.wire.connection.resume_writing()
    assert (await client.done()).endswith(b"x" * size)


@pytest.mark.parametrize("buffered", [True, False])
async def test_an_upstream_that_breaks_off_breaks_the_answer(
    server: Server, client: Client, buffered: bool
) -> None:
    client.route.buffer_response = 1000 if buffered else 0
    server.script = in_two(b"Content-Length: 9", b"abc", b"")
    client.send(GET + GET)
    await client.says(b"abc")
    server.go_on.set()
    assert (await client.done()).endswith(b"\r\n\r\nabc")
    assert client.transport.closed
    assert len(server.heads) == 1


@pytest.mark.parametrize("content", [b"abc", b""])
async def test_trailers_of_a_small_answer_reach_the_client(
    server: Server, client: Client, content: bytes
) -> None:
    chunk = b"3\r\nabc\r\n" if content else b""
    server.script = answering(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk + b"0\r\nA: b\r\n\r\n"
    )
    out = await client.ask(GET)
    assert out.endswith(b"Transfer-Encoding: chunked\r\n\r\n" + chunk + b"0\r\nA: b\r\n\r\n")


async def test_content_with_trailers_is_never_too_slow() -> None:
    body = WithTrailers(b"abc", Fields([(b"A", b"b")]))
    body.pause()
    taken = Taken()
    body.start(taken)
    body.resume()
    body.cancel()
    assert taken.data == b"abc"
    assert taken.finished


async def test_interim_responses_are_passed_on_but_for_100(server: Server, client: Client) -> None:
    server.script = answering(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <a>\r\n"
        b"Connection: x\r\nX: y\r\n\r\n" + OK
    )
    out = await client.ask(GET)
    assert out.startswith(b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 200 OK\r\n")


# ── Failures ─────────────────────────────────────────────────────────────────────────────────


async def test_an_upstream_that_is_not_there_is_a_502(server: Server) -> None:
    client = Client(server)
    client.route.group = Group("demo", [UnixAddress(server.path.with_name("none"))], GroupOptions())
    out = await client.ask(GET)
    assert out.startswith(b"HTTP/1.1 502 ")
    assert b"none" not in out
    await close(client)


async def test_an_answer_that_is_not_http_is_a_502(server: Server, client: Client) -> None:
    server.script = answering(b"hello\r\n\r\n")
    assert (await client.ask(GET)).startswith(b"HTTP/1.1 502 ")
    await until(lambda: client.group.connections == 0)


async def test_an_upstream_that_says_nothing_is_a_504_at_the_time_of_its_route(
    server: Server, client: Client
) -> None:
    async def script(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.head(reader)

    server.script = script
    client.route.read_timeout_s = 10.0
    client.send(GET)
    await until(lambda: server.heads)
    client.group.sweep(asyncio.get_running_loop().time() + 11)
    assert (await client.done()).startswith(b"HTTP/1.1 504 ")


def closing_once() -> Script:
    """Answer, and close when told; every other connection answers."""

    async def script(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if len(server.writers) > 1:
            await answering()(server, reader, writer)
        await server.take(reader)
        writer.write(OK)
        await server.head(reader)  # the second request is read, and not answered
        writer.close()

    return script


async def test_an_idle_connection_that_closes_costs_a_repeatable_request_nothing(
    server: Server, client: Client
) -> None:
    server.script = closing_once()
    await client.ask(GET)
    assert (await client.ask(GET)).startswith(b"HTTP/1.1 200 ")
    assert len(server.writers) == 2


async def test_a_request_that_may_have_been_carried_out_is_not_sent_again(
    server: Server, client: Client
) -> None:
    server.script = closing_once()
    await client.ask(GET)
    out = await client.ask(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
    assert out.startswith(b"HTTP/1.1 502 ")
    assert len(server.heads) == 2


async def test_content_that_was_not_kept_is_not_sent_again(server: Server, client: Client) -> None:
    server.script = closing_once()
    client.route.buffer_request = False
    await client.ask(GET)
    out = await client.ask(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\na")
    assert out.startswith(b"HTTP/1.1 502 ")


async def test_content_that_was_kept_is_sent_again(server: Server, client: Client) -> None:
    server.script = closing_once()
    await client.ask(GET)
    out = await client.ask(b"PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\na")
    assert out.startswith(b"HTTP/1.1 200 ")
    assert server.contents[-1] == b"a"


async def test_forward_needs_an_upstream(server: Server) -> None:
    client = Client(server)
    client.route.group = None
    assert (await client.ask(GET)).startswith(b"HTTP/1.1 500 ")
    client.leave()


# ── Clients that leave ───────────────────────────────────────────────────────────────────────


async def test_a_client_that_leaves_in_the_turn_of_its_request_ends_it(
    server: Server, client: Client
) -> None:
    client.send(GET)
    assert not client.wire.connection.eof_received()
    client.leave()
    await client.done()
    assert client.wire.log.lines == [(b"/a?b", 499)]
    assert client.group.connections == 0


@pytest.mark.parametrize("turns", range(0, 40, 3))
async def test_a_client_may_leave_at_any_point_and_nothing_stays(
    server: Server, client: Client, turns: int
) -> None:
    server.script = in_two(b"Content-Length: 500000", b"a" * 100_000, b"a" * 400_000)
    client.send(GET)
    for turn in range(turns):
        if turn == 30:
            server.go_on.set()
        await asyncio.sleep(0)
    client.leave()
    await client.done()
    await until(lambda: client.group.connections == client.group.idle)
    assert not client.wire.service.idle


async def test_an_answer_that_comes_as_its_client_leaves_frees_the_upstream(
    server: Server, client: Client
) -> None:
    server.script = in_two(b"Content-Length: 500000", b"a", b"a")
    client.send(GET)
    await until(lambda: server.heads)
    client.transport.closed = True  # the connection is told a turn later
    await client.done()
    assert client.wire.log.lines == [(b"/a?b", 499)]
    await until(lambda: client.group.connections == 0)


async def test_a_client_that_leaves_while_it_sends_gives_the_upstream_up(
    server: Server, client: Client
) -> None:
    client.route.buffer_request = False
    client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nab")
    await until(lambda: server.writers)
    client.leave()
    await client.done()
    await until(lambda: client.group.connections == 0)


# ── Upgrades ─────────────────────────────────────────────────────────────────────────────────

UPGRADE = b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


async def test_an_upgrade_becomes_a_tunnel(server: Server, client: Client) -> None:
    async def script(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.head(reader)
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
            b"\r\nearly"
        )
        writer.write(await reader.readexactly(4))

    server.script = script
    client.send(UPGRADE)
    await client.says(b"early")
    head = client.transport.written.partition(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert b"\r\nUpgrade: websocket" in head
    assert fields_of(server.heads[0])[b"upgrade"] == b"websocket"
    assert client.group.connections == 0  # it does not count any more
    end = client.transport.protocol
    assert isinstance(end, asyncio.Protocol)
    end.data_received(b"ping")
    await client.says(b"ping")
    client.transport.closed = True
    end.connection_lost(None)
    await client.done()
    assert client.wire.log.lines == [(b"/ws", 101)]


async def test_an_upgrade_that_is_refused_is_an_answer_like_any_other(
    server: Server, client: Client
) -> None:
    assert (await client.ask(UPGRADE)).endswith(b"ok")
    assert (await client.ask(GET)).endswith(b"ok")
