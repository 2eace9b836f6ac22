"""Content of requests: kept, spilled, passed on, refused, and given up at every point."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from proxy.errors import BadRequestError, ClientGoneError, ContentTooLargeError, HttpError
from proxy.message import Response
from proxy.pipeline.exchange import Exchange, Step, Wait
from proxy.pipeline.respond import respond
from proxy.protocol.request_body import MEMORY_BYTES, IncomingBody
from tests.pipeline.bodies import until
from tests.protocol.test_http1 import answered
from tests.protocol.wire import Wire

POST = b"POST / HTTP/1.1\r\nHost: h\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
LARGE = bytes(range(256)) * 1024  # 256 KiB
Work = Callable[[IncomingBody], Awaitable[bytes]]


def sized(size: int, *lines: bytes) -> bytes:
    return POST + b"".join(line + b"\r\n" for line in lines) + b"Content-Length: %d\r\n\r\n" % size


class Uploading:
    """A request whose content `work` takes; `error` is what it raised."""

    def __init__(self, work: Work, folder: Path | None = None, limit: int = 1 << 30) -> None:
        self.work = work
        self.error: BaseException | None = None
        self.body: IncomingBody | None = None
        self.wire = Wire(self.step)
        self.wire.route.body_limit = limit
        self.wire.site.temp_folder = str(folder) if folder is not None else None

    def step(self, exchange: Exchange) -> Wait:
        return Wait(self.take(exchange))

    async def take(self, exchange: Exchange) -> Step:
        body = exchange.request.body
        assert isinstance(body, IncomingBody)
        self.body = body
        try:
            exchange.response = Response(200, [], await self.work(body))
        except BaseException as error:
            self.error = error
            raise
        finally:
            await body.close()
        return respond

    async def end(self) -> bytes:
        """Wait for the log line; return all that was written."""
        await until(lambda: self.wire.log.lines)
        return self.wire.transport.take()


async def content(body: IncomingBody) -> bytes:
    return b"".join([piece async for piece in body])


async def collected(body: IncomingBody) -> bytes:
    await body.collect()
    once = await content(body)
    assert await content(body) == once
    return once


async def streamed(body: IncomingBody) -> bytes:
    return await content(body)


async def feed(wire: Wire, data: bytes, size: int = 65536) -> None:
    """Send as a client does that waits while nobody reads."""
    for start in range(0, len(data), size):
        await until(lambda: wire.transport.reading)
        wire.connection.data_received(data[start : start + size])


def open_files(folder: Path) -> list[str]:
    links = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
    targets = [os.readlink(link) for link in links if os.path.islink(link)]
    return [target for target in targets if target.startswith(str(folder))]


needs_proc = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")


@pytest.mark.parametrize("work", [collected, streamed])
@pytest.mark.parametrize("size", [1, MEMORY_BYTES, MEMORY_BYTES + 1, len(LARGE)])
@pytest.mark.parametrize("chunked", [True, False])
async def test_content_comes_through_whole(
    work: Work, size: int, chunked: bool, tmp_path: Path
) -> None:
    up = Uploading(work, tmp_path)
    data = LARGE[:size]
    if chunked:
        await feed(up.wire, CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (size, data), 50_000)
    else:
        await feed(up.wire, sized(size) + data, 50_000)
    assert (await up.end()).endswith(b"\r\n\r\n" + data)
    assert not up.wire.transport.closed
    assert up.body is not None
    assert up.body.complete
    assert up.body.length == size


@needs_proc
async def test_what_is_large_waits_in_a_file_that_is_gone_afterwards(tmp_path: Path) -> None:
    seen = []

    async def work(body: IncomingBody) -> bytes:
        await body.collect()
        assert body.in_memory() is None
        seen.extend(open_files(tmp_path))
        return b""

    up = Uploading(work, tmp_path)
    await feed(up.wire, sized(len(LARGE)) + LARGE)
    await up.end()
    assert len(seen) == 1
    assert not open_files(tmp_path)


async def test_what_is_small_stays_in_memory() -> None:
    async def work(body: IncomingBody) -> bytes:
        assert body.in_memory() is None
        await body.collect()
        whole = body.in_memory()
        assert whole is not None
        return whole

    up = Uploading(work)
    up.wire.send(sized(4) + b"ab")
    await asyncio.sleep(0)
    up.wire.send(b"cd")
    assert (await up.end()).endswith(b"abcd")


async def test_what_is_large_and_comes_at_once_stays_in_memory_for_one_read() -> None:
    up = Uploading(collected)
    up.wire.send(sized(len(LARGE)) + LARGE)
    assert (await up.end()).endswith(LARGE)


async def test_trailers_are_there_at_the_end() -> None:
    trailers = []

    async def work(body: IncomingBody) -> bytes:
        await body.collect()
        trailers.extend(body.trailers.lines)
        return b""

    up = Uploading(work)
    up.wire.send(CHUNKED + b"1\r\na\r\n0\r\nA: b\r\n\r\n")
    await up.end()
    assert trailers == [(b"A", b"b")]


async def test_content_with_a_length_has_no_trailers() -> None:
    async def work(body: IncomingBody) -> bytes:
        assert not body.trailers
        return b""

    up = Uploading(work)
    up.wire.send(sized(1) + b"a")
    assert (await up.end()).startswith(b"HTTP/1.1 200")


async def test_nothing_more_is_read_than_whoever_takes_it_has_room_for() -> None:
    go_on = asyncio.Event()

    async def work(body: IncomingBody) -> bytes:
        size = 0
        async for piece in body:
            size += len(piece)
            await go_on.wait()
        return b"%d" % size

    up = Uploading(work)
    wire = up.wire
    wire.send(sized(1_000_000) + b"a")
    sent = 1
    await asyncio.sleep(0)
    while wire.transport.reading:
        wire.send(b"a" * 50_000)
        sent += 50_000
    assert sent <= MEMORY_BYTES + 50_001
    assert wire.connection.deadline_at == float("inf")  # it is not the client who is slow
    go_on.set()
    await feed(wire, b"a" * (1_000_000 - sent))
    assert (await up.end()).endswith(b"1000000")


@pytest.mark.parametrize("work", [collected, streamed])
async def test_chunked_content_over_its_limit_is_refused_in_the_middle(work: Work) -> None:
    up = Uploading(work, limit=5)
    up.wire.send(CHUNKED + b"3\r\nabc\r\n")
    await asyncio.sleep(0)
    up.wire.send(b"3\r\nabc\r\n")
    assert (await up.end()).startswith(b"HTTP/1.1 413 ")
    assert isinstance(up.error, ContentTooLargeError)
    assert up.wire.transport.eof_written


async def test_content_that_passes_its_limit_while_nobody_looks_is_refused_as_well() -> None:
    go_on = asyncio.Event()
    passed = b""

    async def work(body: IncomingBody) -> bytes:
        nonlocal passed
        async for piece in body:
            passed += piece
            await go_on.wait()
        return b""

    up = Uploading(work, limit=5)
    up.wire.send(CHUNKED + b"3\r\nabc\r\n")
    await asyncio.sleep(0)
    up.wire.send(b"3\r\ndef\r\n0\r\n\r\n")
    go_on.set()
    assert (await up.end()).startswith(b"HTTP/1.1 413 ")
    assert passed == b"abc"


async def test_complete_content_over_its_limit_is_not_had_from_memory() -> None:
    async def work(body: IncomingBody) -> bytes:
        assert body.complete
        assert body.in_memory() is None
        return await content(body)

    up = Uploading(work, limit=5)
    up.wire.send(CHUNKED)
    up.wire.send(b"6\r\nabcdef\r\n0\r\n\r\n")
    assert (await up.end()).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("work", [collected, streamed])
async def test_malformed_content_is_a_400_in_the_middle(work: Work) -> None:
    up = Uploading(work)
    up.wire.send(CHUNKED + b"3\r\nabc\r\n")
    await asyncio.sleep(0)
    up.wire.send(b"x\r\n")
    assert (await up.end()).startswith(b"HTTP/1.1 400 ")
    assert isinstance(up.error, BadRequestError)


def lose(wire: Wire) -> None:
    wire.transport.closed = True
    wire.connection.connection_lost(None)


@pytest.mark.parametrize("work", [collected, streamed])
@pytest.mark.parametrize("turns", range(5))
@pytest.mark.parametrize("sent", [0, 1, 100_000])
async def test_a_client_may_leave_at_any_point(
    work: Work, turns: int, sent: int, tmp_path: Path
) -> None:
    up = Uploading(work, tmp_path)
    up.wire.send(sized(200_000))
    if sent:
        up.wire.send(LARGE[:sent])
    for _ in range(turns):
        await asyncio.sleep(0)
    lose(up.wire)
    await up.end()
    assert up.wire.log.lines == [(b"/", 499)]
    assert isinstance(up.error, ClientGoneError | asyncio.CancelledError)
    assert not up.wire.service.connections
    assert not up.wire.service.idle


async def test_who_asks_after_the_client_has_left_is_told() -> None:
    go_on = asyncio.Event()

    async def work(body: IncomingBody) -> bytes:
        try:
            await go_on.wait()
        except asyncio.CancelledError:
            await body.collect()
        return b""

    up = Uploading(work)
    up.wire.send(sized(3))
    await asyncio.sleep(0)
    lose(up.wire)
    await up.end()
    assert isinstance(up.error, ClientGoneError)


@pytest.mark.parametrize(("moment", "status"), [("opening", 500), ("writing", 507)])
async def test_a_disk_that_fails_or_is_full_is_told_without_a_traceback(
    moment: str, status: int, tmp_path: Path
) -> None:
    folder = tmp_path if moment == "writing" else tmp_path / "missing"
    up = Uploading(collected, folder)
    async with files_of(MEMORY_BYTES + 1000 if moment == "writing" else None):
        up.wire.send(sized(len(LARGE)))
        await feed(up.wire, LARGE[:-1])
        assert (await up.end()).startswith(b"HTTP/1.1 %d " % status)
    assert isinstance(up.error, HttpError)
    assert str(folder) in str(up.error)


@asynccontextmanager
async def files_of(size: int | None) -> AsyncIterator[None]:
    """Let no file grow over `size` bytes, as on a disk that is full."""
    import resource
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    if size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


async def test_an_answer_before_the_end_of_the_content_ends_the_connection() -> None:
    async def work(body: IncomingBody) -> bytes:
        return b"early"

    up = Uploading(work)
    up.wire.send(sized(MEMORY_BYTES + 1))
    out = await up.end()
    assert b"Connection: close" in out
    assert up.wire.transport.eof_written


async def test_what_nobody_wanted_is_thrown_away_as_it_comes() -> None:
    async def work(body: IncomingBody) -> bytes:
        return b"early"

    up = Uploading(work)
    up.wire.send(sized(20) + b"abc")
    await up.end()
    up.wire.send(b"abc")
    assert up.wire.connection.body is not None
    assert up.wire.connection.body.received == 6
    up.wire.send(b"a" * 14 + b"GET / HTTP/1.1\r\nHost: h\r\n")
    assert up.wire.connection.buffer.startswith(b"GET")


async def test_a_client_is_asked_for_its_content_once() -> None:
    up = Uploading(streamed)
    up.wire.send(sized(2, b"Expect: 100-continue"))
    await asyncio.sleep(0)
    assert up.wire.transport.take() == b"HTTP/1.1 100 Continue\r\n\r\n"
    up.wire.send(b"a")
    await asyncio.sleep(0)
    assert up.wire.transport.take() == b""
    up.wire.send(b"b")
    assert (await up.end()).endswith(b"\r\n\r\nab")


async def test_a_client_that_did_not_wait_is_not_asked() -> None:
    up = Uploading(collected)
    up.wire.send(sized(2, b"Expect: 100-continue") + b"a")
    await asyncio.sleep(0)
    assert up.wire.transport.take() == b""
    up.wire.send(b"b")
    assert (await answered(up.wire)).endswith(b"\r\n\r\nab")


async def test_an_http_1_0_client_is_not_asked() -> None:
    up = Uploading(collected)
    up.wire.send(sized(1, b"Expect: 100-continue").replace(b"1.1", b"1.0"))
    await asyncio.sleep(0)
    assert up.wire.transport.take() == b""
