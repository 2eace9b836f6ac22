"""Files and stored content on real sockets: every byte, in order, whatever the client does."""

import asyncio
import errno
import gc
import hashlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvloop

from proxy import page_cache
from proxy.cache.disk import DiskStore
from proxy.cache.disk_folder import name_of, path_of
from proxy.cache.disk_reader import DiskBody
from proxy.cache.sealed import CAN_SEAL
from proxy.cache.sealed_source import SealedSource
from proxy.errors import StoredContentError
from proxy.files.file_source import FileSource
from proxy.files.safe_open import open_below
from proxy.message import Response, Source
from proxy.page_cache import SEND_BYTES
from proxy.pipeline.exchange import Exchange, Step
from proxy.pipeline.respond import respond
from proxy.protocol.file_sender import FileSender
from proxy.protocol.limits import ClientLimits
from proxy.protocol.listener import listen
from proxy.protocol.tls import Contexts
from proxy.rules.ranges import Span
from tests.cache.making import entry
from tests.cache.taking import Notes, until
from tests.config.pki import Issued
from tests.protocol.test_tls import client as tls_client
from tests.protocol.test_tls import contexts
from tests.protocol.wire import Wire

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
# What a slow client's system takes ahead of it.
SLOW_BYTES = 64 * 1024
GET_LAST = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
CONTENT = os.urandom(3 * SEND_BYTES + 12_345)
Pieces = Sequence[bytes | Span] | None
Opener = Callable[[Pieces], Source]

needs_sealing = pytest.mark.skipif(not CAN_SEAL, reason="memory is sealed on Linux")
needs_sendfile = pytest.mark.skipif(not page_cache.NOWAIT, reason="files are read in threads here")


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(params=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, None]], None]:
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def run(main: Coroutine[Any, Any, None]) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main)

    return run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


def from_file(path: Path, pieces: Pieces = None) -> Source:
    pieces = [Span(0, path.stat().st_size)] if pieces is None else pieces
    return FileSource(open_below(str(path.parent), [path.name.encode()]), pieces)


class Sent:
    """Counts what went from files to sockets."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bytes = 0
        self.waits = 0
        self.before: Callable[[], None] = lambda: None
        real = FileSender.send

        def send(sender: FileSender, descriptor: int, offset: int, count: int) -> int:
            self.before()
            sent = real(sender, descriptor, offset, count)
            self.bytes += max(sent, 0)
            self.waits += sender.waiting
            return sent

        monkeypatch.setattr(FileSender, "send", send)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Sent:
    return Sent(monkeypatch)


class Server(Wire):
    """A real socket whose every answer is what `open_body` gives."""

    def __init__(self, open_body: Callable[[], Source], limits: ClientLimits | None) -> None:
        super().__init__(self._step, limits)
        self.connection.connection_lost(None)
        self._open_body = open_body
        self.exchanges: list[Exchange] = []
        self.port = 0

    def _step(self, exchange: Exchange) -> Step:
        self.exchanges.append(exchange)
        exchange.response = Response(200, [], self._open_body())
        return respond


@asynccontextmanager
async def serving(
    open_body: Callable[[], Source],
    limits: ClientLimits | None = None,
    tls: Contexts | None = None,
) -> AsyncIterator[Server]:
    server = Server(open_body, limits)
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    server.port = sock.getsockname()[1]
    listener = await listen(server.service, sock, contexts=tls, backlog=100)
    try:
        yield server
    finally:
        listener.close()
        server.service.abort_all()
        await until(lambda: not server.service.connections)


class Client:
    """A socket that reads when it is told to, and little at a time."""

    def __init__(self, port: int, most_bytes: int = 0) -> None:
        self.socket = socket.socket()
        if most_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, most_bytes)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setblocking(False)
        self.got = bytearray()

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.socket, data)

    async def read(self, most_bytes: int = 1 << 16) -> int:
        """Read once; 0 is the end."""
        data = await asyncio.get_running_loop().sock_recv(self.socket, most_bytes)
        self.got += data
        return len(data)

    async def answer(self, most_bytes: int = 1 << 16) -> tuple[bytes, bytes]:
        """Read one answer; returns its head and its content, cut off where the connection ends."""
        while b"\r\n\r\n" not in self.got:
            assert await self.read(most_bytes)
        head, _, rest = bytes(self.got).partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        self.got = bytearray(rest)
        while len(self.got) < length:
            try:
                if not await self.read(most_bytes):
                    break
            except ConnectionResetError:
                break
        body, self.got = bytes(self.got[:length]), self.got[length:]
        return head, body

    def close(self) -> None:
        self.socket.close()


async def stored(
    folder: Path, content: bytes = CONTENT, copies_bytes: int = 0
) -> tuple[DiskStore, DiskBody, Path]:
    store = DiskStore(folder / "cache", Notes(), copies_bytes=copies_bytes)
    writer = store.begin(entry(b"k", b""))
    assert writer is not None
    for first in range(0, len(content), SEND_BYTES):
        writer.write(content[first : first + SEND_BYTES])
        await writer.settled()
    done = await writer.commit()
    assert done is not None
    assert isinstance(done.body, DiskBody)
    return store, done.body, Path(path_of(store.root, name_of(b"k", b"")))


Run = Callable[[Coroutine[Any, Any, None]], None]


# Complete, in order, and past the transport.


@needs_sendfile
@pytest.mark.parametrize("most_bytes", [0, SLOW_BYTES])
def test_a_file_goes_out_as_it_is_to_fast_and_to_slow_readers(
    run: Run, path: Path, sent: Sent, most_bytes: int
) -> None:
    async def main() -> None:
        async with serving(lambda: from_file(path)) as server:
            client = Client(server.port, most_bytes)
            for _ in range(2):
                await client.send(GET)
                _head, body = await client.answer(most_bytes or 1 << 20)
                assert digest(body) == digest(CONTENT)
            client.close()
            assert [exchange.body_bytes for exchange in server.exchanges] == [len(CONTENT)] * 2

    run(main())
    assert sent.bytes >= 2 * (len(CONTENT) - page_cache.LEAST_SEND_BYTES)
    if most_bytes:
        assert sent.waits


def test_stored_content_is_copied_so_that_what_was_checked_goes_out(
    run: Run, tmp_path: Path, sent: Sent
) -> None:
    async def main() -> None:
        store, body, _place = await stored(tmp_path)
        async with serving(body.source) as server:
            client = Client(server.port)
            for _ in range(3):
                await client.send(GET)
                assert digest((await client.answer())[1]) == digest(CONTENT)
            client.close()
        await store.close()

    run(main())
    assert not sent.bytes


async def copied(folder: Path) -> tuple[DiskStore, DiskBody]:
    """Store content, and ask for it until there is a copy in memory."""
    store, body, _place = await stored(folder, copies_bytes=4 * len(CONTENT))
    source = body.source()
    while not isinstance(source, SealedSource):
        source.cancel()
        await asyncio.sleep(0.001)
        source = body.source()
    return store, body


@needs_sealing
@pytest.mark.parametrize("most_bytes", [0, SLOW_BYTES])
def test_what_was_checked_and_copied_goes_out_as_it_is_whatever_becomes_of_the_file(
    run: Run, tmp_path: Path, sent: Sent, most_bytes: int
) -> None:
    async def main() -> None:
        store, body = await copied(tmp_path)
        place = Path(path_of(store.root, name_of(b"k", b"")))

        def damage() -> None:
            with place.open("r+b") as file:
                file.seek(len(CONTENT) // 2)
                file.write(os.urandom(SEND_BYTES))

        sent.before = damage
        async with serving(body.source) as server:
            client = Client(server.port, most_bytes)
            for _ in range(2):
                await client.send(GET)
                _head, received = await client.answer(most_bytes or 1 << 20)
                assert digest(received) == digest(CONTENT)
            client.close()
        await store.close()

    run(main())
    assert sent.bytes >= 2 * (len(CONTENT) - page_cache.LEAST_SEND_BYTES)
    if most_bytes:
        assert sent.waits


@pytest.mark.parametrize("kind", ["file", "stored", pytest.param("copied", marks=needs_sealing)])
@pytest.mark.parametrize(
    "ends",
    [
        [(0, 1)],
        [(len(CONTENT) - 1, len(CONTENT))],
        [(100, 100 + SEND_BYTES)],
        [(65_535, 2 * SEND_BYTES + 1), (0, 10), (7, 300_000)],
        [(5, 5 + page_cache.LEAST_SEND_BYTES), (SEND_BYTES, len(CONTENT))],
    ],
)
def test_ranges_are_exact_and_in_order(
    run: Run, tmp_path: Path, path: Path, kind: str, ends: list[tuple[int, int]]
) -> None:
    pieces: list[bytes | Span] = [b"--first\r\n"]
    expected = b"--first\r\n"
    for first, stop in ends:
        pieces += [Span(first, stop), b"\r\n--next"]
        expected += CONTENT[first:stop] + b"\r\n--next"

    async def main() -> None:
        if kind == "copied":
            store, body = await copied(tmp_path)
        else:
            store, body, _place = await stored(tmp_path)
        opened: Opener = body.source if kind != "file" else lambda these: from_file(path, these)
        async with serving(lambda: opened(pieces)) as server:
            client = Client(server.port, SLOW_BYTES)
            for _ in range(2):
                await client.send(GET)
                assert digest((await client.answer())[1]) == digest(expected)
            client.close()
        await store.close()

    run(main())


def test_requests_behind_a_large_answer_are_answered_behind_it(run: Run, path: Path) -> None:
    async def main() -> None:
        async with serving(lambda: from_file(path)) as server:
            client = Client(server.port, SLOW_BYTES)
            head = b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\n"
            await client.send(GET + head + GET + GET_LAST)
            assert digest((await client.answer())[1]) == digest(CONTENT)
            while b"\r\n\r\n" not in client.got:
                await client.read()
            client.got = client.got.partition(b"\r\n\r\n")[2]  # a HEAD has no content
            for _ in range(2):
                assert digest((await client.answer())[1]) == digest(CONTENT)
            assert await client.read() == 0
            client.close()

    run(main())


@pytest.mark.parametrize("keep", [False, True])
def test_http_1_0_gets_the_same_bytes(run: Run, path: Path, sent: Sent, keep: bool) -> None:
    async def main() -> None:
        async with serving(lambda: from_file(path)) as server:
            client = Client(server.port)
            await client.send(b"GET / HTTP/1.0\r\n%b\r\n" % (b"Connection: keep-alive\r\n" * keep))
            head, body = await client.answer()
            assert digest(body) == digest(CONTENT)
            assert (b"Connection: keep-alive" in head) == keep
            if not keep:
                assert await client.read() == 0
            client.close()

    run(main())
    assert sent.bytes or not page_cache.NOWAIT


def test_over_tls_content_is_copied(run: Run, path: Path, sent: Sent) -> None:
    root = Issued.authority()

    async def main() -> None:
        async with serving(lambda: from_file(path), tls=contexts(root)) as server:
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", server.port, ssl=tls_client(root), server_hostname="a.example"
            )
            writer.write(GET)
            head = await reader.readuntil(b"\r\n\r\n")
            assert b"Content-Length: %d\r\n" % len(CONTENT) in head
            assert digest(await reader.readexactly(len(CONTENT))) == digest(CONTENT)
            writer.close()
            await writer.wait_closed()

    run(main())
    assert sent.bytes == 0


def test_other_connections_have_their_turns_while_a_large_answer_goes_out(
    run: Run, tmp_path: Path, path: Path, sent: Sent
) -> None:
    small = tmp_path / "small"
    small.write_bytes(b"small")
    wanted = [path, small, small]

    async def main() -> None:
        async with serving(lambda: from_file(wanted.pop(0))) as server:
            slow, quick = Client(server.port, SLOW_BYTES), Client(server.port)
            await slow.send(GET)
            await until(lambda: len(server.exchanges) == 1)
            for _ in range(2):
                await quick.send(GET)
                assert (await quick.answer())[1] == b"small"
            assert server.exchanges[0].body_bytes < len(CONTENT)
            assert digest((await slow.answer())[1]) == digest(CONTENT)
            slow.close()
            quick.close()

    run(main())


# What does not go as planned.


def refuse(number: int) -> Callable[..., int]:
    def refuse(*_arguments: object) -> int:
        raise OSError(number, os.strerror(number))

    return refuse


def no_descriptor(_descriptor: int) -> int:
    raise OSError(errno.EMFILE, "too many open files")


@pytest.mark.parametrize("kind", ["file", "stored"])
@pytest.mark.parametrize(
    "trouble", ["no sendfile here", "not in the page cache", "half way", "no descriptor left"]
)
def test_what_cannot_be_sent_as_it_is_gets_copied(
    run: Run, tmp_path: Path, path: Path, kind: str, trouble: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = [SEND_BYTES // 2] if trouble == "half way" else []
    real = os.sendfile

    def some(out: int, descriptor: int, offset: int, count: int) -> int:
        if not left:
            raise OSError(errno.EINVAL, "this file system cannot")
        return real(out, descriptor, offset, min(count, left.pop()))

    if trouble == "not in the page cache":
        monkeypatch.setattr(page_cache, "holds", lambda *_arguments: False)
    elif trouble == "no descriptor left":
        monkeypatch.setattr(os, "dup", no_descriptor)
    else:
        monkeypatch.setattr(os, "sendfile", some)

    async def main() -> None:
        store, body, _place = await stored(tmp_path)
        opened = body.source if kind == "stored" else lambda: from_file(path)
        async with serving(opened) as server:
            client = Client(server.port, SLOW_BYTES)
            await client.send(GET)
            assert digest((await client.answer())[1]) == digest(CONTENT)
            client.close()
        await store.close()

    run(main())


@pytest.mark.parametrize("reset", [False, True])
def test_a_client_that_leaves_in_the_middle_ends_its_exchange(
    run: Run, path: Path, reset: bool
) -> None:
    async def main() -> None:
        async with serving(lambda: from_file(path)) as server:
            gc.collect()  # what other tests have left open is not counted
            open_then: list[int] = []
            for _ in range(3):
                client = Client(server.port, SLOW_BYTES)
                await client.send(GET)
                await client.read(1000)
                if reset:
                    linger = b"\1\0\0\0\0\0\0\0"
                    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                client.close()
                await until(lambda: not server.service.connections)
                await until(lambda: len(server.log.lines) == len(server.exchanges))
                assert server.exchanges[-1].body_bytes < len(CONTENT)
                open_then.append(len(os.listdir("/dev/fd")))
            # No file is left open, and no second descriptor of a socket.
            assert open_then[1] == open_then[2]

    run(main())


@needs_sendfile
def test_a_socket_that_breaks_while_a_file_is_sent_ends_the_exchange(
    run: Run, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.sendfile

    def broken(out: int, descriptor: int, offset: int, count: int) -> int:
        with socket.socket(fileno=os.dup(out)) as sock:
            sock.shutdown(socket.SHUT_WR)
        return real(out, descriptor, offset, count)

    monkeypatch.setattr(os, "sendfile", broken)

    async def main() -> None:
        async with serving(lambda: from_file(path)) as server:
            client = Client(server.port)
            await client.send(GET)
            assert (await client.answer())[1] == b""
            await until(lambda: bool(server.log.lines))
            client.close()

    run(main())


def test_a_client_that_reads_nothing_is_not_waited_for(run: Run, path: Path) -> None:
    limits = ClientLimits(send_timeout_s=5.0)

    async def main() -> None:
        async with serving(lambda: from_file(path), limits) as server:
            client = Client(server.port, SLOW_BYTES)
            await client.send(GET)
            await until(lambda: bool(server.service.connections))
            (connection,) = server.service.connections
            await until(lambda: connection.sink.paused)
            sweep, now = server.service.deadlines.sweep, server.service.loop.time()
            while connection.sink.paused:  # it may still have taken some since
                before = connection.sink.exchange.body_bytes if connection.sink.exchange else 0
                now += 7
                sweep(now)
                await asyncio.sleep(0)
                if connection.transport.is_closing():
                    break
                assert connection.sink.exchange is not None
                assert connection.sink.exchange.body_bytes >= before
            await until(lambda: bool(server.log.lines))
            client.close()

    run(main())


def test_a_client_that_reads_slowly_is_waited_for(run: Run, path: Path) -> None:
    limits = ClientLimits(send_timeout_s=5.0)

    async def main() -> None:
        async with serving(lambda: from_file(path), limits) as server:
            client = Client(server.port, SLOW_BYTES)
            await client.send(GET)
            await until(lambda: bool(server.service.connections))
            (connection,) = server.service.connections
            now, seen = server.service.loop.time(), 0
            while connection.sink.exchange is not None:
                await until(lambda: connection.sink.paused or connection.sink.exchange is None)
                while connection.sink.exchange is not None:  # until more has gone out
                    if connection.sink.exchange.body_bytes > seen and connection.sink.paused:
                        seen = connection.sink.exchange.body_bytes
                        break
                    await client.read()
                now += 7
                server.service.deadlines.sweep(now)
            assert digest((await client.answer())[1]) == digest(CONTENT)
            client.close()

    run(main())


@pytest.mark.parametrize("change", ["shorter", "longer", "written over"])
def test_a_file_that_is_changed_while_it_is_sent_breaks_off(
    run: Run, path: Path, change: str
) -> None:
    async def main() -> None:
        async with serving(lambda: from_file(path)) as server:
            client = Client(server.port, SLOW_BYTES)
            await client.send(GET)
            await client.read(1000)
            if change == "shorter":
                os.truncate(path, 100)
            else:
                with path.open("ab" if change == "longer" else "r+b") as file:
                    file.write(b"x")
            os.utime(path, (1, 1))
            _head, body = await client.answer()
            assert len(body) < len(CONTENT)
            client.close()

    run(main())


@needs_sendfile
@pytest.mark.parametrize("kind", ["file", "stored"])
def test_a_file_that_ends_early_whatever_its_status_says_breaks_off(
    run: Run, tmp_path: Path, path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sendfile", lambda *_arguments: 0)

    async def main() -> None:
        store, body, place = await stored(tmp_path)
        opened = body.source if kind == "stored" else lambda: from_file(path)
        async with serving(opened) as server:
            client = Client(server.port)
            await client.send(GET)
            got = (await client.answer())[1]
            # Stored content is looked at again, and found to be whole.
            assert digest(got) == digest(CONTENT if kind == "stored" else b"")
            client.close()
        assert place.exists()
        await store.close()

    run(main())


def flip(path: Path, at: int) -> None:
    """Change a byte; the status is another when this returns, however coarse its times are."""
    before = path.stat().st_ctime_ns
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0] ^ 1
        while path.stat().st_ctime_ns == before:
            file.seek(at)
            file.write(bytes([byte]))
            file.flush()


@pytest.mark.parametrize("first", [True, False])
def test_damage_after_a_block_was_checked_and_served_is_seen(
    run: Run, tmp_path: Path, first: bool
) -> None:
    async def main() -> None:
        store, body, place = await stored(tmp_path)
        async with serving(body.source) as server:
            client = Client(server.port)
            await client.send(GET)
            assert digest((await client.answer())[1]) == digest(CONTENT)
            at = body.offset + (1000 if first else len(CONTENT) - 1000)
            flip(place, at)
            if first:
                with pytest.raises(StoredContentError, match="block 0 "):
                    body.source()
            else:
                await client.send(GET)
                got = (await client.answer())[1]
                assert CONTENT.startswith(got)
                assert len(got) <= len(CONTENT) - 1000
            client.close()
        await store.flush()
        assert not place.exists()
        await store.close()

    run(main())


def test_damage_while_content_is_sent_is_seen(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        store, body, place = await stored(tmp_path)
        async with serving(body.source) as server:
            client = Client(server.port)
            await client.send(GET)
            await client.answer()
            slow = Client(server.port, SLOW_BYTES)
            await slow.send(GET)
            await slow.read(1000)
            flip(place, body.offset + len(CONTENT) - 1000)
            got = (await slow.answer())[1]
            assert CONTENT.startswith(got)
            assert len(got) <= len(CONTENT) - 1000
            slow.close()
            client.close()
        await store.flush()
        assert not place.exists()
        await store.close()

    run(main())


def test_a_body_that_is_longer_than_it_said_breaks_off(run: Run, path: Path) -> None:
    def lying() -> Source:
        source = from_file(path)
        source.length = SEND_BYTES + 5
        return source

    async def main() -> None:
        async with serving(lying) as server:
            client = Client(server.port)
            await client.send(GET)
            _head, body = await client.answer()
            assert len(body) <= SEND_BYTES + 5
            assert CONTENT.startswith(body)
            await until(lambda: bool(server.log.lines))
            client.close()

    run(main())


async def test_a_transport_without_a_socket_gets_copies(path: Path) -> None:
    def step(exchange: Exchange) -> Step:
        exchange.response = Response(200, [], from_file(path))
        return respond

    wire = Wire(step)
    wire.connection.data_received(GET)
    await until(lambda: bool(wire.log.lines))
    assert digest(wire.transport.written.partition(b"\r\n\r\n")[2]) == digest(CONTENT)
