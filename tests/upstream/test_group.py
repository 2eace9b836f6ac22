"""Groups against real servers on loopback and unix sockets."""

import asyncio
import errno
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from math import inf
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import (
    NoAnswerError,
    OverloadedError,
    StaleConnectionError,
    UpstreamError,
    UpstreamTimeoutError,
)
from proxy.message import Fields
from proxy.upstream.address import Address, TcpAddress, UnixAddress
from proxy.upstream.answer import AwaitedAnswer
from proxy.upstream.connection import UpstreamConnection
from proxy.upstream.dial import reason
from proxy.upstream.group import Group
from proxy.upstream.options import GroupOptions
from proxy.upstream.resolve import Resolver
from proxy.upstream.response import ResponseBody, UpstreamResponse

Script = Callable[["Upstream", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Upstream:
    """A real server that follows a script on each connection."""

    def __init__(self, script: Script) -> None:
        self.address: Address = TcpAddress("127.0.0.1", 0)
        self.accepted = 0
        self.heads: list[bytes] = []
        self.sent_bytes = 0
        self.go_on = asyncio.Event()
        self.writers: list[asyncio.StreamWriter] = []
        self._script = script

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self.writers.append(writer)
        try:
            await self._script(self, reader, writer)
        except (asyncio.IncompleteReadError, OSError):
            pass  # the proxy has left
        finally:
            writer.close()

    async def take(self, reader: asyncio.StreamReader) -> bytes:
        """Read one request head."""
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        return head


@asynccontextmanager
async def upstream(script: Script, path: Path | None = None) -> AsyncIterator[Upstream]:
    """Run a server on a port of its own, or on a unix socket."""
    running = Upstream(script)
    if path is not None:
        server = await asyncio.start_unix_server(running.serve, str(path))
        running.address = UnixAddress(path)
    else:
        server = await asyncio.start_server(running.serve, "127.0.0.1", 0)
        running.address = TcpAddress("127.0.0.1", server.sockets[0].getsockname()[1])
    try:
        yield running
    finally:
        server.close()
        for writer in running.writers:
            writer.transport.abort()
        await server.wait_closed()


async def answering(
    server: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Answer every request."""
    while True:
        await server.take(reader)
        writer.write(OK)


async def silent(
    server: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Take requests and answer when told."""
    while True:
        await server.take(reader)
        await server.go_on.wait()
        writer.write(OK)


def saying(data: bytes) -> Script:
    """Answer one request with `data` and close."""

    async def script(
        server: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.take(reader)
        writer.write(data)

    return script


def group_of(*addresses: Address, options: GroupOptions | None = None) -> Group:
    return Group("demo", addresses, options or GroupOptions())


def ignore(_status: int, _lines: object) -> None:
    pass


async def get(group: Group) -> UpstreamResponse:
    connection = group.acquire_now() or await group.acquire()
    return await ask(connection)


def begin(connection: UpstreamConnection, method: bytes) -> AwaitedAnswer:
    answer = AwaitedAnswer(ignore)
    connection.begin(answer, method)
    return answer


def ask(connection: UpstreamConnection) -> AwaitedAnswer:
    answer = begin(connection, b"GET")
    connection.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    return answer


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until the condition holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)


class Collector:
    """Takes a body; tells when it is over."""

    def __init__(self) -> None:
        self.size = 0
        self.data = b""
        self.error: Exception | None = None
        self.over = asyncio.Event()

    def feed(self, data: bytes) -> None:
        self.size += len(data)
        self.data = (self.data + data)[:4096]

    def finish(self, _trailers: Fields | None) -> None:
        self.over.set()

    def abort(self, error: Exception) -> None:
        self.error = error
        self.over.set()


async def collect(response: UpstreamResponse) -> Collector:
    collector = Collector()
    if isinstance(response.body, ResponseBody):
        response.body.start(collector)
        await collector.over.wait()
    else:
        collector.feed(response.body or b"")
    return collector


@pytest.mark.parametrize("unix", [False, True])
async def test_an_idle_connection_is_used_again(tmp_path: Path, unix: bool) -> None:
    async with upstream(answering, tmp_path / "s" if unix else None) as server:
        group = group_of(server.address)
        assert group.acquire_now() is None
        for _ in range(3):
            assert (await get(group)).body == b"ok"
        assert (server.accepted, group.connections, group.idle) == (1, 1, 1)
        group.close()
        assert (group.connections, group.idle) == (0, 0)


async def test_the_connection_used_last_is_taken_first() -> None:
    async with upstream(answering) as server:
        group = group_of(server.address)
        connections = [await group.acquire() for _ in range(3)]
        for connection in connections:
            connection.release()
        assert group.acquire_now() is connections[2]
        group.close()
        connections[2].close()


async def test_more_idle_connections_than_allowed_are_closed() -> None:
    async with upstream(answering) as server:
        group = group_of(server.address, options=GroupOptions(idle_connections=2))
        connections = [await group.acquire() for _ in range(3)]
        for connection in connections:
            connection.release()
        assert [connection.closed for connection in connections] == [True, False, False]
        assert (group.connections, group.idle) == (2, 2)
        group.close()


async def test_idle_connections_are_let_go_by_the_sweep() -> None:
    async with upstream(answering) as server:
        group = group_of(server.address, options=GroupOptions(idle_timeout_s=4))
        await get(group)
        now = asyncio.get_running_loop().time()
        group.sweep(now + 3.5)
        assert group.idle == 1
        group.sweep(now + 4.5)
        assert (group.idle, group.connections) == (0, 0)


async def test_a_connection_that_the_upstream_closes_while_idle_is_dropped_at_once() -> None:
    async with upstream(answering) as server:
        group = group_of(server.address)
        await get(group)
        server.writers[0].close()
        await until(lambda: group.connections == 0)
        assert group.acquire_now() is None
        assert (await get(group)).status == 200
        assert server.accepted == 2
        group.close()


async def test_a_connection_that_the_upstream_closes_instead_of_answering_is_stale() -> None:
    async def script(
        server: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.take(reader)
        writer.write(OK)
        await server.take(reader)

    async with upstream(script) as server:
        group = group_of(server.address)
        await get(group)
        with pytest.raises(StaleConnectionError):
            await get(group)
        assert group.connections == 0


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "without an answer"),
        (b"HTTP/1.1 200 O", "response head"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab", "in the middle of a body"),
        (CHUNKED + b"5\r\nab", "in the middle of a body"),
        (CHUNKED + b"2\r\nab\r\n", "in the middle of a body"),
        (CHUNKED + b"2\r\nabc", "bad response"),
        (b"220 mail.example.com ESMTP\r\n", "bad response"),
        (bytes(range(256)), "bad response"),
    ],
)
async def test_an_upstream_that_breaks_off_or_sends_garbage_is_an_error(
    data: bytes, words: str
) -> None:
    async with upstream(saying(data)) as server:
        group = group_of(server.address)
        try:
            error = (await collect(await get(group))).error
        except UpstreamError as failure:
            error = failure
        assert isinstance(error, UpstreamError)
        assert not isinstance(error, StaleConnectionError)
        assert words in str(error)
        assert str(server.address) in str(error)
        assert group.connections == 0


async def test_a_body_until_the_end_of_the_connection_is_complete() -> None:
    async with upstream(saying(b"HTTP/1.1 200 OK\r\n\r\nall of it")) as server:
        group = group_of(server.address)
        collector = await collect(await get(group))
        assert (collector.data, collector.error) == (b"all of it", None)
        assert group.connections == 0


async def test_two_answers_to_one_request_cost_the_connection() -> None:
    async with upstream(saying(OK + OK)) as server:
        group = group_of(server.address)
        assert (await get(group)).body == b"ok"
        await until(lambda: group.connections == 0)


@pytest.mark.parametrize(
    ("sent", "words"),
    [(b"", "sent nothing"), (b"HTTP/1.1 2", "sent nothing")],
)
async def test_a_slow_upstream_is_a_timeout(sent: bytes, words: str) -> None:
    async def script(
        server: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.take(reader)
        writer.write(sent)
        await server.go_on.wait()

    async with upstream(script) as server:
        group = group_of(server.address, options=GroupOptions(read_timeout_s=5))
        answer = ask(await group.acquire())
        await until(lambda: bool(server.heads))
        now = asyncio.get_running_loop().time()
        group.sweep(now + 4)
        assert not answer.done()
        group.sweep(now + 6)
        with pytest.raises(UpstreamTimeoutError, match=words):
            await answer
        assert group.connections == 0
        server.go_on.set()


# ── Bounds ───────────────────────────────────────────────────────────────────────────────────


async def test_a_slow_consumer_holds_the_upstream_back() -> None:
    total = 64 * 1024 * 1024
    piece = b"x" * 65536

    async def script(
        server: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.take(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        while server.sent_bytes < total:
            writer.write(piece)
            await writer.drain()
            server.sent_bytes += len(piece)
        await reader.read()

    async with upstream(script) as server:
        group = group_of(server.address)
        response = await get(group)
        body = response.body
        assert isinstance(body, ResponseBody)
        assert body.length == total
        collector = Collector()
        body.start(collector)
        body.pause()
        # Until nothing moves any more: the sockets' buffers are full.
        seen = -1
        while seen != server.sent_bytes:
            seen = server.sent_bytes
            for _ in range(1000):
                await asyncio.sleep(0)
        assert server.sent_bytes < 16 * 1024 * 1024  # what the kernel holds
        assert collector.size <= 2 * 256 * 1024  # what the loop reads at once
        body.resume()
        await collector.over.wait()
        assert (collector.size, collector.error) == (total, None)
        assert group.idle == 1
        group.close()


async def test_a_slow_upstream_holds_the_sender_back_until_it_times_out() -> None:
    async with upstream(silent) as server:
        group = group_of(server.address)
        connection = await group.acquire()
        answer = begin(connection, b"POST")
        connection.send(b"POST / HTTP/1.1\r\nContent-Length: 100000000\r\n\r\n", more=True)
        sent = 0
        while True:
            waiting = asyncio.ensure_future(connection.writable())
            await asyncio.sleep(0)
            if not waiting.done() and connection.deadline_at < inf:
                for _ in range(1000):
                    await asyncio.sleep(0)
                if not waiting.done():
                    break
            assert await waiting
            connection.send(b"x" * 65536, more=True)
            sent += 65536
        assert sent < 32 * 1024 * 1024
        # The first look may see progress since the wait began; the second does not.
        group.sweep(connection.deadline_at)
        group.sweep(connection.deadline_at)
        assert not await waiting
        with pytest.raises(UpstreamTimeoutError, match="took nothing"):
            await answer
        assert group.connections == 0


@pytest.mark.parametrize("unix", [False, True])
async def test_an_answer_of_an_upstream_that_stopped_reading_is_not_lost(
    tmp_path: Path, unix: bool
) -> None:
    async def script(
        server: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.take(reader)
        await server.go_on.wait()
        writer.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 4\r\n\r\nmuch")

    async with upstream(script, tmp_path / "s" if unix else None) as server:
        group = group_of(server.address)
        connection = await group.acquire()
        answer = begin(connection, b"POST")
        connection.send(b"POST / HTTP/1.1\r\nContent-Length: 100000000\r\n\r\n", more=True)
        await until(lambda: bool(server.heads))
        server.go_on.set()
        while await connection.writable():
            connection.send(b"x" * 65536, more=True)
            await asyncio.sleep(0)
        response = await answer
        assert (response.status, response.body) == (413, b"much")
        assert group.connections == 0


@pytest.mark.parametrize(
    "sent",
    [
        b"HTTP/1.1 401 Unauthorized\r\n\r\nno",
        b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno",
    ],
)
async def test_an_answer_that_the_loop_did_not_read_any_more_is_read_at_the_end(
    tmp_path: Path, sent: bytes
) -> None:
    async with upstream(silent, tmp_path / "s") as server:
        group = group_of(server.address)
        connection = await group.acquire()
        answer = begin(connection, b"POST")
        connection.send(b"POST / HTTP/1.1\r\n\r\n", more=True)
        await until(lambda: bool(server.heads))
        # Blocking, so that the loop has no chance to read before the write fails.
        peer = server.writers[0].transport.get_extra_info("socket").fileno()
        copy = socket.socket(fileno=socket.dup(peer))
        with copy:
            copy.send(sent)
            copy.shutdown(socket.SHUT_RDWR)
        connection.send(b"x" * 65536)
        collector = await collect(await answer)
        assert (collector.data, collector.error) == (b"no", None)
        assert group.connections == 0


async def test_past_the_limit_requests_wait_in_turn_for_a_connection() -> None:
    async with upstream(silent) as server:
        group = group_of(server.address, options=GroupOptions(max_connections=1))
        first = ask(await group.acquire())
        order: list[int] = []

        async def queue(number: int) -> None:
            connection = await group.acquire()
            order.append(number)
            await ask(connection)

        tasks = [asyncio.ensure_future(queue(number)) for number in range(3)]
        await until(lambda: group.waiting == 3)
        assert group.acquire_now() is None
        server.go_on.set()
        await first
        await asyncio.gather(*tasks)
        assert order == [0, 1, 2]
        assert (server.accepted, group.connections, group.idle) == (1, 1, 1)
        group.close()


async def test_a_lost_connection_gives_its_place_to_who_waits() -> None:
    async with upstream(silent) as server:
        group = group_of(server.address, options=GroupOptions(max_connections=1))
        connection = await group.acquire()
        answer = ask(connection)
        waiting = asyncio.ensure_future(get(group))
        await until(lambda: group.waiting == 1)
        connection.give_up(answer)
        assert group.connections == 1
        server.go_on.set()
        assert (await waiting).status == 200
        assert server.accepted == 2
        group.close()


async def test_past_the_queue_there_is_a_503_with_retry_after() -> None:
    async with upstream(silent) as server:
        options = GroupOptions(max_connections=1, queue=1)
        group = group_of(server.address, options=options)
        connection = await group.acquire()
        waiting = asyncio.ensure_future(group.acquire())
        await until(lambda: group.waiting == 1)
        with pytest.raises(OverloadedError, match="raise max_connections or queue") as caught:
            await group.acquire()
        assert caught.value.fields == ((b"Retry-After", b"1"),)
        connection.release()
        (await waiting).release()
        group.close()


async def test_who_waits_too_long_gets_a_503() -> None:
    async with upstream(silent) as server:
        options = GroupOptions(max_connections=1, queue_timeout_s=5)
        group = group_of(server.address, options=options)
        connection = await group.acquire()
        waiting = asyncio.ensure_future(group.acquire())
        await until(lambda: group.waiting == 1)
        now = asyncio.get_running_loop().time()
        group.sweep(now + 4)
        assert group.waiting == 1
        group.sweep(now + 6)
        with pytest.raises(OverloadedError, match="within 5 s"):
            await waiting
        assert group.waiting == 0
        connection.release()
        group.close()


async def test_a_client_that_leaves_the_queue_never_starts() -> None:
    async with upstream(silent) as server:
        group = group_of(server.address, options=GroupOptions(max_connections=1))
        connection = await group.acquire()
        leaving = asyncio.ensure_future(group.acquire())
        staying = asyncio.ensure_future(group.acquire())
        await until(lambda: group.waiting == 2)
        leaving.cancel()
        await asyncio.wait([leaving])
        assert group.waiting == 1
        connection.release()
        assert await staying is connection
        connection.release()
        assert group.idle == 1
        group.close()


async def test_a_client_that_is_just_leaving_the_queue_is_passed_over() -> None:
    async with upstream(silent) as server:
        group = group_of(server.address, options=GroupOptions(max_connections=1))
        connection = await group.acquire()
        leaving = asyncio.ensure_future(group.acquire())
        staying = asyncio.ensure_future(group.acquire())
        await until(lambda: group.waiting == 2)
        leaving.cancel()  # and has had no time to go
        connection.release()
        assert await staying is connection
        connection.release()
        group.close()


async def test_a_connection_given_to_a_client_that_left_goes_to_the_next() -> None:
    async with upstream(silent) as server:
        group = group_of(server.address, options=GroupOptions(max_connections=1))
        connection = await group.acquire()
        leaving = asyncio.ensure_future(group.acquire())
        staying = asyncio.ensure_future(group.acquire())
        await until(lambda: group.waiting == 2)
        connection.release()
        leaving.cancel()
        assert await asyncio.wait_for(staying, 5) is connection
        connection.release()
        assert (group.connections, group.idle) == (1, 1)
        group.close()


async def test_a_place_given_to_a_client_that_left_goes_to_the_next() -> None:
    async with upstream(silent) as server:
        group = group_of(server.address, options=GroupOptions(max_connections=1))
        connection = await group.acquire()
        leaving = asyncio.ensure_future(group.acquire())
        staying = asyncio.ensure_future(group.acquire())
        await until(lambda: group.waiting == 2)
        connection.close()
        leaving.cancel()
        (await asyncio.wait_for(staying, 5)).release()
        assert (group.connections, group.idle, server.accepted) == (1, 1, 2)
        group.close()


async def test_a_connection_that_dies_on_its_way_to_who_waits_is_replaced() -> None:
    async with upstream(silent) as server:
        group = group_of(server.address, options=GroupOptions(max_connections=1))
        connection = await group.acquire()
        waiting = asyncio.ensure_future(group.acquire())
        await until(lambda: group.waiting == 1)
        connection.release()
        connection.close()
        replacement = await waiting
        assert not replacement.closed
        assert group.connections == 1
        replacement.release()
        group.close()


async def test_cancelling_while_connecting_gives_the_place_back() -> None:
    lookup = asyncio.Event()

    async def never(_name: str) -> list[str]:
        await lookup.wait()
        return []

    resolver = Resolver(never)
    group = Group("demo", [TcpAddress("app", 1)], GroupOptions(), resolver)
    opening = asyncio.ensure_future(group.acquire())
    await until(lambda: group.connections == 1)
    opening.cancel()
    await asyncio.wait([opening])
    assert group.connections == 0
    lookup.set()
    await until(lambda: resolver._names["app"].task is None)


async def test_a_closed_group_keeps_nothing_and_lets_requests_end() -> None:
    async with upstream(silent) as server:
        group = group_of(server.address)
        idle, busy = await group.acquire(), await group.acquire()
        idle.release()
        answer = ask(busy)
        group.close()
        assert idle.closed
        server.go_on.set()
        assert (await answer).status == 200
        assert busy.closed
        assert group.connections == 0


# ── Several servers ──────────────────────────────────────────────────────────────────────────


async def test_servers_are_taken_in_turn() -> None:
    async with upstream(answering) as one, upstream(answering) as two:
        group = group_of(one.address, two.address)
        for _ in range(6):
            await get(group)
        assert (len(one.heads), len(two.heads)) == (3, 3)
        assert (one.accepted, two.accepted) == (1, 1)
        group.close()


async def test_the_limit_of_connections_is_that_of_each_server() -> None:
    async with upstream(silent) as one, upstream(silent) as two:
        group = group_of(one.address, two.address, options=GroupOptions(max_connections=1))
        busy = [await group.acquire(), await group.acquire()]
        assert [pool.taken for pool in group.pools] == [1, 1]
        waiting = asyncio.ensure_future(group.acquire())
        await until(lambda: group.waiting == 1)
        busy[1].release()
        assert await waiting is busy[1]
        busy[0].release()
        busy[1].release()
        assert {group.acquire_now(), group.acquire_now()} == set(busy)
        assert group.acquire_now() is None
        group.close()


async def test_a_server_that_cannot_be_reached_is_passed_over() -> None:
    async with upstream(answering) as server:
        group = group_of(TcpAddress("127.0.0.1", refused_port()), server.address)
        for _ in range(3):
            assert (await get(group)).status == 200
        assert len(server.heads) == 3
        group.close()


async def test_a_server_that_is_back_is_used_again(tmp_path: Path) -> None:
    async with upstream(answering) as steady:
        group = group_of(UnixAddress(tmp_path / "s"), steady.address)
        await get(group)
        async with upstream(answering, tmp_path / "s") as back:
            await get(group)
            await get(group)
            assert back.accepted == 0  # it failed less than a second ago
            group.pools[0].health.ejected_until = 0  # a second later
            group.changed()
            await get(group)
            await get(group)
            assert len(back.heads) == 1
            group.close()


async def test_when_no_server_can_be_reached_the_last_reason_is_the_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    group = group_of(UnixAddress(tmp_path / "one"), UnixAddress(tmp_path / "two"))
    with pytest.raises(UpstreamError, match="two"):
        await group.acquire()
    assert "one" in caplog.records[0].getMessage()
    assert group.connections == 0
    # Both have just failed, and are tried all the same.
    with pytest.raises(UpstreamError):
        await group.acquire()


# ── Connecting ───────────────────────────────────────────────────────────────────────────────


def refused_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_a_refused_connection_says_where_why_and_what_to_check() -> None:
    port = refused_port()
    group = group_of(TcpAddress("127.0.0.1", port))
    with pytest.raises(UpstreamError) as caught:
        await group.acquire()
    message = str(caught.value)
    assert f"upstream demo (127.0.0.1:{port}) cannot be reached" in message
    assert "refused" in message
    assert "is it running?" in message
    assert message.count(str(port)) == 1


async def test_a_missing_socket_says_so(tmp_path: Path) -> None:
    group = group_of(UnixAddress(tmp_path / "s"))
    with pytest.raises(UpstreamError, match="no such socket; is it running"):
        await group.acquire()


async def test_a_file_that_is_no_socket_says_so(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("")
    group = group_of(UnixAddress(tmp_path / "s"))
    with pytest.raises(UpstreamError, match="cannot be reached"):
        await group.acquire()


async def test_a_name_that_does_not_exist_says_so() -> None:
    async def nobody(_name: str) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    group = Group("demo", [TcpAddress("nowhere", 1)], GroupOptions(), Resolver(nobody))
    with pytest.raises(UpstreamError, match=r"address of nowhere: .*not known"):
        await group.acquire()
    assert group.connections == 0


async def test_the_addresses_of_a_name_are_tried_one_after_the_other() -> None:
    async def several(_name: str) -> list[str]:
        return ["127.0.0.2", "127.0.0.1"]

    async with upstream(answering) as server:
        assert isinstance(server.address, TcpAddress)
        address = TcpAddress("app", server.address.port)
        group = Group("demo", [address], GroupOptions(), Resolver(several))
        assert (await get(group)).status == 200
        group.close()


async def test_an_address_that_is_silent_is_a_timeout() -> None:
    # A listener whose queue is full drops the next SYN, as a firewall does.
    with socket.socket() as full, socket.socket() as one:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        one.connect(full.getsockname())
        group = group_of(
            TcpAddress("127.0.0.1", full.getsockname()[1]),
            options=GroupOptions(connect_timeout_s=0.1),
        )
        with pytest.raises(UpstreamTimeoutError, match=r"within 0\.1 s; check the address"):
            await group.acquire()
        assert group.connections == 0


@pytest.mark.skipif(sys.platform != "linux", reason="others refuse where Linux says EAGAIN")
async def test_a_server_that_does_not_accept_is_a_timeout(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as full, socket.socket(socket.AF_UNIX) as one:
        full.bind(str(tmp_path / "s"))
        full.listen(0)
        one.connect(str(tmp_path / "s"))
        group = group_of(UnixAddress(tmp_path / "s"), options=GroupOptions(connect_timeout_s=0.1))
        with pytest.raises(UpstreamTimeoutError, match=r"within 0\.1 s"):
            await group.acquire()
        assert group.connections == 0


@pytest.mark.skipif(sys.platform != "linux", reason="others refuse where Linux says EAGAIN")
async def test_a_full_backlog_is_waited_for(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as full, socket.socket(socket.AF_UNIX) as one:
        full.bind(str(tmp_path / "s"))
        full.listen(0)
        one.connect(str(tmp_path / "s"))
        group = group_of(UnixAddress(tmp_path / "s"))
        waiting = asyncio.ensure_future(group.acquire())
        await until(lambda: group.connections == 1)
        full.accept()[0].close()
        connection = await waiting
        connection.close()


class DeadTransport(asyncio.Transport):
    """A transport that is closed."""

    def abort(self) -> None:
        pass


async def test_a_connection_that_is_closed_as_soon_as_it_is_open_is_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def dial(*args: Any) -> UpstreamConnection:
        connection: UpstreamConnection = args[3]()
        connection.connection_made(DeadTransport())
        connection.connection_lost(None)
        return connection

    monkeypatch.setattr("proxy.upstream.pool.dial", dial)
    group = group_of(TcpAddress("127.0.0.1", 1))
    for _ in range(2):  # as after any request without an answer, the next one is tried
        with pytest.raises(NoAnswerError, match="as soon as it was open"):
            await group.acquire()
    assert group.connections == 0


async def test_small_requests_are_not_held_back_by_nagle() -> None:
    async with upstream(answering) as server:
        group = group_of(server.address)
        connection = await group.acquire()
        pseudo = connection._transport.get_extra_info("socket")
        assert pseudo.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        connection.release()
        group.close()


def test_errors_of_the_system_are_told_without_the_event_loops_words() -> None:
    assert reason(OSError(errno.EACCES, "Permission denied")) == "Permission denied"
    assert reason(OSError("only words")) == "only words"
