"""Content that comes bit by bit: kept in memory or on a real disk, joined, cut, given up."""

import asyncio
import copy
import errno
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from proxy.cache import disk_folder, disk_reader
from proxy.cache.disk import DiskStore
from proxy.cache.disk_reader import DiskBody
from proxy.cache.journal import Journal
from proxy.cache.tiered import Tiered
from proxy.rules.cache_rule import CacheRule
from tests.pipeline.bodies import until
from tests.pipeline.caching import FRESH, another, answer, asking, cached, held, later, status_of
from tests.pipeline.upstreams import GET, Client, Script, Server, answering, close

SIZE = 900_000
HALF = SIZE // 2
CONTENT = bytes(range(256)) * (SIZE // 256) + b"x" * (SIZE % 256)
HEAD = b'HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nETag: "a"\r\n'


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    client = cached(server)
    yield client
    await close(client)


@pytest.fixture
async def disk(client: Client, tmp_path: Path) -> AsyncIterator[DiskStore]:
    store = DiskStore(tmp_path, Journal(tmp_path), object_bytes=1 << 16)
    cache_of(client).disk = store
    yield store
    client.leave()
    await store.close()


def cache_of(client: Client) -> Tiered:
    cache = client.wire.site.cache
    assert cache is not None
    return cache


def in_halves(head: bytes = HEAD, *, breaks: bool = False) -> Script:
    """Answer with CONTENT, its second half when told."""

    async def script(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        while not writer.is_closing():
            await server.take(reader)
            writer.write(head + b"Content-Length: %d\r\n\r\n" % SIZE + CONTENT[:HALF])
            await server.go_on.wait()
            if breaks:
                writer.close()
            else:
                writer.write(CONTENT[HALF:])

    return script


def content_of(out: bytes) -> bytes:
    return out.partition(b"\r\n\r\n")[2]


def empty(folder: Path) -> None:
    for path in folder.glob("??/*"):
        path.unlink()


async def all_here(client: Client) -> None:
    await until(lambda: not cache_of(client).flights)
    disk = cache_of(client).disk
    if isinstance(disk, DiskStore):
        await disk.flush()


async def test_content_goes_to_the_disk_and_comes_from_there(
    server: Server, client: Client, disk: DiskStore
) -> None:
    server.script = in_halves()
    server.go_on.set()
    assert content_of(await client.ask(GET)) == CONTENT
    await all_here(client)
    entry = held(client)
    assert entry is not None
    assert isinstance(entry.body, DiskBody)
    assert content_of(await client.ask(GET)) == CONTENT
    out = await client.ask(asking(b"Range: bytes=100-199"))
    assert content_of(out) == CONTENT[100:200]
    head = client.wire.send(asking(method=b"HEAD"))
    assert b"\r\nContent-Length: %d\r\n" % SIZE in head
    assert head.endswith(b"\r\n\r\n")
    cache_of(client).memory.remove(entry)
    assert content_of(await client.ask(GET)) == CONTENT
    assert len(server.heads) == 1


async def test_who_comes_late_reads_the_beginning_from_the_disk(
    server: Server, client: Client, disk: DiskStore
) -> None:
    server.script = in_halves()
    client.send(GET)
    await until(lambda: len(client.transport.written) > HALF)
    others = [another(client) for _ in range(3)]
    for other, request in zip(
        others,
        (GET, asking(b"Range: bytes=5-9"), asking(b"Range: bytes=%d-" % (SIZE - 3))),
        strict=True,
    ):
        other.send(request)
    await until(lambda: b"206 Partial" in others[1].transport.written)
    server.go_on.set()
    await until(lambda: len(client.wire.log.lines) == 4)
    await all_here(client)
    assert content_of(client.transport.take()) == CONTENT
    assert content_of(others[0].transport.take()) == CONTENT
    assert others[1].transport.take().endswith(b"\r\n\r\n" + CONTENT[5:10])
    assert others[2].transport.take().endswith(b"\r\n\r\n" + CONTENT[-3:])
    assert len(server.heads) == 1
    for other in others:
        other.leave()


@pytest.mark.parametrize("kept", [True, False])
async def test_a_slow_client_does_not_slow_the_others(
    server: Server, client: Client, disk: DiskStore, kept: bool
) -> None:
    client.route.buffer_response = 0 if kept else 64 << 20
    if not kept:
        cache_of(client).disk = None
    server.script = in_halves()
    slow = another(client)
    client.send(GET)
    slow.send(GET)
    await until(lambda: b"\r\n\r\n" in slow.transport.written)
    slow.wire.connection.pause_writing()
    server.go_on.set()
    assert content_of(await client.done()) == CONTENT
    await all_here(client)
    slow.wire.connection.resume_writing()
    await until(lambda: len(client.wire.log.lines) == 2)
    assert content_of(slow.transport.take()) == CONTENT
    slow.leave()


async def test_a_client_that_leaves_in_the_middle_leaves_the_rest_to_the_others(
    server: Server, client: Client, disk: DiskStore
) -> None:
    server.script = in_halves()
    other = another(client)
    client.send(GET)
    other.send(GET)
    await until(lambda: len(client.transport.written) > 1000)
    client.leave()
    server.go_on.set()
    await until(lambda: len(client.wire.log.lines) == 2)
    assert content_of(other.transport.take()) == CONTENT
    await all_here(client)
    assert held(client) is not None
    other.leave()


async def test_the_first_that_leaves_before_the_answer_takes_it_from_nobody(
    server: Server, client: Client
) -> None:
    """Its connection is gone when the answer comes, but its exchange does not know yet."""
    server.script = in_halves()
    other = another(client)
    client.send(GET)
    other.send(GET)
    await until(lambda: server.heads)
    client.transport.closed = True
    server.go_on.set()
    await until(lambda: len(client.wire.log.lines) == 2)
    assert content_of(other.transport.take()) == CONTENT
    other.leave()


async def test_an_upstream_that_dies_in_the_middle_leaves_nothing_behind(
    server: Server, client: Client, disk: DiskStore, tmp_path: Path
) -> None:
    server.script = in_halves(breaks=True)
    other = another(client)
    client.send(GET)
    await until(lambda: len(client.transport.written) > HALF)
    other.send(GET)
    server.go_on.set()
    await until(lambda: len(client.wire.log.lines) == 2)
    assert client.transport.is_closing()
    assert other.transport.is_closing()
    await all_here(client)
    assert held(client) is None
    await until(lambda: not list(tmp_path.glob("tmp/*")))


async def test_a_disk_that_is_full_in_the_middle_costs_no_more_than_the_store(
    server: Server, client: Client, disk: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script = in_halves()
    client.send(GET)
    await until(lambda: len(client.transport.written) > HALF)
    await asyncio.sleep(0.05)

    def full(*_args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(disk_folder, "write_all", full)
    server.go_on.set()
    assert content_of(await client.done()) == CONTENT
    await all_here(client)
    assert held(client) is None
    assert content_of(await client.ask(GET)) == CONTENT


@pytest.mark.parametrize(
    "wanted", [GET, asking(b"Range: bytes=100000-"), asking(b"Range: bytes=5-6,80000-80001")]
)
async def test_a_file_that_another_worker_has_replaced_is_looked_for_before_the_head_goes_out(
    server: Server,
    client: Client,
    disk: DiskStore,
    monkeypatch: pytest.MonkeyPatch,
    wanted: bytes,
) -> None:
    """Also where the first look cannot tell, as what is in the page cache is not known."""
    server.script = in_halves()
    server.go_on.set()
    await client.ask(GET)
    await all_here(client)
    entry = held(client)
    assert entry is not None
    place = disk_folder.path_of(disk.root, disk_folder.name_of(entry.key, entry.variant))
    other = copy.copy(entry)
    other.size_bytes = 0  # as it was when the first one was begun, or its file is larger
    size_bytes = os.stat(place).st_size
    writer = disk.begin(other)
    assert writer is not None
    writer.write(CONTENT)
    assert await writer.commit() is not None
    assert os.stat(place).st_size == size_bytes
    monkeypatch.setattr(disk_reader, "NOWAIT", 0)
    out = await client.ask(wanted)
    assert status_of(out).startswith(b"proxyd; hit")
    if wanted is GET:
        assert content_of(out) == CONTENT
    else:
        assert b"206 Partial Content" in out
    assert len(server.heads) == 1
    assert not client.transport.is_closing()


async def test_a_client_may_leave_while_the_disk_is_looked_at(
    server: Server, client: Client, disk: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script = in_halves()
    server.go_on.set()
    await client.ask(GET)
    await all_here(client)
    monkeypatch.setattr(disk_reader, "NOWAIT", 0)
    other = another(client)
    other.send(GET)
    other.leave()
    await until(lambda: len(client.wire.log.lines) == 2)
    assert content_of(await client.ask(GET)) == CONTENT


async def test_what_the_disk_has_lost_is_asked_for(
    server: Server, client: Client, disk: DiskStore, tmp_path: Path
) -> None:
    server.script = in_halves()
    server.go_on.set()
    await client.ask(GET)
    await all_here(client)
    empty(tmp_path)
    server.script = answering(FRESH)
    for writer in server.writers:
        writer.close()
    await until(lambda: client.group.connections == 0)
    out = await client.ask(GET)
    assert status_of(out) == b"proxyd; fwd=uri-miss; fwd-status=200; ttl=59; stored"
    assert held(client) is not None


async def test_a_head_of_what_is_on_the_disk_is_refreshed_there(
    server: Server, client: Client, disk: DiskStore
) -> None:
    server.script = in_halves()
    server.go_on.set()
    await client.ask(GET)
    await all_here(client)
    later(client, 70)
    for writer in server.writers:
        writer.close()
    await until(lambda: client.group.connections == 0)
    server.script = answering(
        b'HTTP/1.1 304 Not Modified\r\nETag: "a"\r\nCache-Control: max-age=90\r\n\r\n'
    )
    out = await client.ask(GET)
    assert content_of(out) == CONTENT
    assert status_of(out).startswith(b"proxyd; fwd=stale; fwd-status=304; ttl=")
    await disk.flush()
    entry = held(client)
    assert entry is not None
    cache_of(client).memory.remove(entry)
    out = await client.ask(GET)
    assert content_of(out) == CONTENT
    assert int(re.findall(rb"ttl=(\d+)", status_of(out))[0]) > 80


async def test_what_only_a_thread_can_read_is_read_by_one(
    server: Server, client: Client, disk: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.cache.disk.NOWAIT", 0)
    server.script = answering(FRESH)
    await client.ask(GET)
    await disk.flush()
    entry = held(client)
    assert entry is not None
    cache_of(client).memory.remove(entry)
    assert status_of(await client.ask(GET)).startswith(b"proxyd; hit; ttl=")
    entry = held(client)
    assert entry is not None
    cache_of(client).memory.remove(entry)

    async def lost(*_args: object) -> None:
        return None

    monkeypatch.setattr(disk, "read", lost)
    assert status_of(await client.ask(GET)).startswith(b"proxyd; fwd=uri-miss; ")


async def test_what_is_here_at_once_and_too_large_for_memory_goes_to_the_disk(
    server: Server, client: Client, disk: DiskStore
) -> None:
    cache_of(client).memory_object_bytes = 2
    server.script = answering(
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"
    )
    out = await client.ask(GET)
    assert out.endswith(b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n")
    await all_here(client)
    entry = held(client)
    assert entry is not None
    assert isinstance(entry.body, DiskBody)
    assert entry.trailers is not None
    assert (await client.ask(GET)).endswith(b"\r\n\r\nhello")


# ── Without a disk ───────────────────────────────────────────────────────────────────────────


async def test_a_range_of_what_is_coming_is_cut_out_of_it(server: Server, client: Client) -> None:
    cache_of(client).memory_object_bytes = 1 << 20
    server.script = in_halves()
    server.go_on.set()
    out = await client.ask(asking(b"Range: bytes=10-19"))
    assert out.startswith(b"HTTP/1.1 206 Partial Content\r\n")
    assert b"Content-Range: bytes 10-19/%d\r\n" % SIZE in out
    assert content_of(out) == CONTENT[10:20]
    await all_here(client)
    assert content_of(await client.ask(GET)) == CONTENT  # the rest was taken for the store
    assert len(server.heads) == 1


@pytest.mark.parametrize(
    ("field", "begin"),
    [
        (b"Range: bytes=900000-", b"HTTP/1.1 416 "),
        (b"Range: bytes=0-1,500-501", b"HTTP/1.1 200 "),
        (b"Range: lines=1-2", b"HTTP/1.1 200 "),
        (b'If-None-Match: "a"', b"HTTP/1.1 304 "),
        (b'If-None-Match: "b"', b"HTTP/1.1 200 "),
    ],
)
async def test_who_joins_a_stream_gets_what_it_asks_for(
    server: Server, client: Client, field: bytes, begin: bytes
) -> None:
    cache_of(client).memory_object_bytes = 1 << 20
    server.script = in_halves()
    client.send(GET)
    await until(lambda: len(client.transport.written) > HALF)
    other = another(client)
    other.send(asking(field))
    await other.says(begin)
    server.go_on.set()
    await until(lambda: len(client.wire.log.lines) == 2)
    out = other.transport.take()
    assert len(content_of(out)) in {0, SIZE} or begin.startswith(b"HTTP/1.1 416")
    assert len(server.heads) == 1
    other.leave()


async def test_a_part_of_what_is_too_large_is_asked_for_as_a_part(
    server: Server, client: Client
) -> None:
    server.script = in_halves()
    server.go_on.set()
    for _ in range(2):
        await client.ask(asking(b"Range: bytes=10-19"))
    assert b"Range: bytes=10-19" in server.heads[1]
    assert b"Range: bytes=10-19" in server.heads[2]
    assert len(server.heads) == 3
    assert held(client) is None


async def test_what_is_too_large_is_not_said_to_be_stored(server: Server, client: Client) -> None:
    server.script = in_halves()
    server.go_on.set()
    out = await client.ask(GET)
    assert status_of(out) == b"proxyd; fwd=uri-miss; fwd-status=200; ttl=59; stored=?0"
    assert content_of(out) == CONTENT
    # The next ones do not wait for one another.
    assert status_of(await client.ask(GET)) == b"proxyd; fwd=uri-miss; fwd-status=200"


async def test_what_is_larger_than_the_rule_wants_is_not_stored(server: Server) -> None:
    client = cached(server, CacheRule(largest_bytes=1000))
    server.script = answering(answer(b"Cache-Control: max-age=60", b"x" * 300_000))
    await client.ask(GET)
    assert held(client) is None
    await close(client)


async def test_trailers_reach_all_who_take_them(server: Server, client: Client) -> None:
    async def script(
        server: Server, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await server.take(reader)
        writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        await server.go_on.wait()
        writer.write(b"3\r\ndef\r\n0\r\nX-Sum: 1\r\n\r\n")

    server.script = script
    client.send(GET)
    await client.says(b"3\r\nabc\r\n")
    old, third = another(client), another(client)
    old.send(b"GET /a?b HTTP/1.0\r\nHost: h\r\n\r\n")
    third.send(asking(b"Range: bytes=1-2"))  # of what nobody knows the length
    server.go_on.set()
    await until(lambda: len(client.wire.log.lines) == 3)
    for out in (client.transport.take(), third.transport.take()):
        assert out.endswith(b"3\r\ndef\r\n0\r\nX-Sum: 1\r\n\r\n")
    assert content_of(old.transport.take()) == b"abcdef"
    assert old.transport.is_closing()
    entry = held(client)
    assert entry is not None
    assert entry.trailers is not None
    assert client.wire.send(GET).endswith(b"\r\n\r\nabcdef")
    old.leave()
    third.leave()


async def test_requests_in_a_row_are_answered_in_their_order(
    server: Server, client: Client
) -> None:
    server.script = answering(FRESH)
    client.send(GET + asking(b"Range: bytes=0-1") + asking(method=b"POST") + GET)
    out = await client.done(4)
    statuses = re.findall(rb"HTTP/1\.1 (\d+)", out)
    assert statuses == [b"200", b"206", b"200", b"200"]
    assert [head[:4] for head in server.heads] == [b"GET ", b"POST"]
