"""Stored content goes out in bounded memory, every byte checked, or it breaks off."""

import asyncio
import errno
import gc
import os
import threading
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.cache import disk_file, disk_reader
from proxy.cache.disk import DiskStore
from proxy.cache.disk_folder import name_of, path_of
from proxy.cache.disk_reader import CHUNK_BLOCKS, DiskBody, DiskSource
from proxy.errors import StoredContentError
from proxy.message import Consumer
from proxy.page_cache import NOWAIT
from proxy.rules.ranges import Span
from tests.cache.making import entry
from tests.cache.taking import Notes, Taker, taken, until

CHUNK_BYTES = CHUNK_BLOCKS * disk_file.BLOCK_BYTES
CONTENT = os.urandom(2 * CHUNK_BYTES + 100_000)


async def stored(store: DiskStore, content: bytes = CONTENT, key: bytes = b"k") -> DiskBody:
    writer = store.begin(entry(key, b""))
    assert writer is not None
    for first in range(0, len(content), CHUNK_BYTES):
        writer.write(content[first : first + CHUNK_BYTES])
        await writer.settled()
    done = await writer.commit()
    assert done is not None
    assert isinstance(done.body, DiskBody)
    return done.body


def from_file(body: DiskBody, pieces: Sequence[bytes | Span] | None = None) -> DiskSource:
    source = body.source(pieces)
    assert isinstance(source, DiskSource)
    return source


def place(store: DiskStore, key: bytes = b"k") -> Path:
    return Path(path_of(store.root, name_of(key, b"")))


@pytest.fixture(params=["cached", "not cached", "cannot tell", "no such call"])
def page_cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "no such call":
        monkeypatch.setattr(disk_reader, "NOWAIT", 0)
    elif request.param != "cached":
        number = errno.EAGAIN if request.param == "not cached" else errno.EOPNOTSUPP

        def refuse(*_args: object) -> int:
            raise OSError(number, "refused")

        monkeypatch.setattr(os, "preadv", refuse, raising=False)
    return str(request.param)


def not_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have everything read in a thread."""
    monkeypatch.setattr(disk_reader, "NOWAIT", 0)


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    with path.open("r+b") as file:
        file.write(data)


@pytest.mark.usefixtures("page_cache")
async def test_all_of_it_comes_in_chunks(store: DiskStore) -> None:
    body = await stored(store)
    source = body.source()
    assert source.length == len(CONTENT)
    taker = await taken(source)
    assert taker.body == CONTENT
    assert max(map(len, taker.chunks)) == CHUNK_BYTES
    assert taker.ends == 1


@pytest.mark.usefixtures("page_cache")
async def test_pieces_come_in_the_order_asked_for(store: DiskStore) -> None:
    body = await stored(store)
    last = len(CONTENT)
    pieces: list[bytes | Span] = [
        b"one ",
        Span(last - 5, last),
        b" two ",
        b"",
        Span(100, 100),
        Span(65_530, 65_550),
        b" three",
    ]
    source = body.source(pieces)
    taker = await taken(source)
    assert taker.body == (b"one " + CONTENT[-5:] + b" two " + CONTENT[65_530:65_550] + b" three")
    assert source.length == len(taker.body)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.lists(st.tuples(st.integers(0, len(CONTENT)), st.integers(0, len(CONTENT))), max_size=3))
def test_any_spans_are_exact(
    tmp_path_factory: pytest.TempPathFactory, ends: Sequence[tuple[int, int]]
) -> None:
    spans = [Span(min(pair), max(pair)) for pair in ends]

    async def run() -> bytes:
        store = DiskStore(tmp_path_factory.mktemp("cache"), Notes())
        body = await stored(store)
        taker = await taken(body.source(spans))
        await store.close()
        return taker.body

    expected = b"".join(CONTENT[span.first : span.stop] for span in spans)
    assert asyncio.run(run()) == expected


async def test_nothing_at_all_ends_at_once(store: DiskStore) -> None:
    body = await stored(store, b"")
    assert (await taken(body.source())).body == b""
    assert (await taken(body.source([b"", Span(0, 0)]))).body == b""


@pytest.mark.usefixtures("page_cache")
async def test_a_consumer_holds_it_back(store: DiskStore) -> None:
    body = await stored(store)
    source = body.source()
    taker = Taker(lambda _count: source.pause())
    source.start(taker)
    while not taker.ended.is_set():
        before = len(taker.chunks)
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(taker.chunks) <= before + 1
        source.resume()
        await asyncio.sleep(0.001)
    assert taker.body == CONTENT


async def test_resuming_before_the_start_is_nothing(store: DiskStore) -> None:
    body = await stored(store)
    source = body.source()
    source.pause()
    source.resume()
    assert (await taken(source)).body == CONTENT


@pytest.mark.usefixtures("page_cache")
async def test_cancelling_closes_the_file(store: DiskStore) -> None:
    body = await stored(store)
    gc.collect()  # what other tests have left open is not counted
    before = len(os.listdir("/dev/fd"))
    never_started = body.source()
    never_started.cancel()
    left_in_a_feed = body.source()
    taker = Taker(lambda _count: left_in_a_feed.cancel())
    left_in_a_feed.start(taker)
    left_while_a_thread_reads = body.source()
    left_while_a_thread_reads.start(taker)
    left_while_a_thread_reads.cancel()
    await until(lambda: len(os.listdir("/dev/fd")) <= before)
    assert not taker.ended.is_set()
    assert len(taker.chunks) <= 2


async def test_a_source_that_is_forgotten_closes_its_file(store: DiskStore) -> None:
    body = await stored(store)
    gc.collect()  # what other tests have left open is not counted
    before = len(os.listdir("/dev/fd"))
    source = body.source()
    assert len(os.listdir("/dev/fd")) == before + 1
    del source
    assert len(os.listdir("/dev/fd")) == before


async def test_a_consumer_may_give_up_the_last_chunk(store: DiskStore) -> None:
    body = await stored(store, b"small")
    source = body.source()
    taker = Taker(lambda _count: source.cancel())
    source.start(taker)
    assert taker.body == b"small"
    assert taker.ends == 0


async def test_memory_stays_bounded_however_long_it_is(store: DiskStore) -> None:
    content = bytes(32 * 1024 * 1024)
    body = await stored(store, content)

    class Forgetful(Taker):
        count = 0

        def feed(self, data: bytes) -> None:
            self.count += len(data)

    taker = Forgetful()
    tracemalloc.start()
    source = body.source()
    source.start(taker)
    await taker.ended.wait()
    _now, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taker.count == len(content)
    assert peak < 4 * CHUNK_BYTES


# Files that are not what they were.


@pytest.mark.usefixtures("page_cache")
@pytest.mark.parametrize("change", ["gone", "replaced"])
async def test_content_that_is_gone_is_a_miss_before_the_first_byte(
    store: DiskStore, change: str
) -> None:
    body = await stored(store)
    if change == "replaced":
        await stored(store, b"new")
    else:
        place(store).unlink()
    with pytest.raises(StoredContentError):
        body.source()
    await store.flush()
    # What took its place is not harmed.
    assert place(store).exists() == (change == "replaced")


async def test_another_file_of_the_same_size_is_a_miss_and_is_not_harmed(store: DiskStore) -> None:
    body = await stored(store)
    await stored(store, CONTENT[::-1])
    if NOWAIT:
        with pytest.raises(StoredContentError):
            body.source()
        await store.flush()
        assert place(store).exists()


@pytest.mark.usefixtures("page_cache")
async def test_a_file_that_was_cut_short_is_a_miss(store: DiskStore) -> None:
    body = await stored(store)
    os.truncate(place(store), place(store).stat().st_size - 1)
    with pytest.raises(StoredContentError, match="another size"):
        body.source()
    await store.flush()
    assert not place(store).exists()


async def test_a_file_that_took_the_place_is_found_out_in_a_thread_as_well(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = await stored(store)
    await stored(store, CONTENT[::-1])
    not_cached(monkeypatch)
    taker = await taken(body.source())
    assert isinstance(taker.error, StoredContentError)
    assert taker.body == b""
    await store.flush()
    assert place(store).exists()


@pytest.mark.usefixtures("page_cache")
@pytest.mark.parametrize("pieces", [None, [b"one ", Span(70_000, len(CONTENT)), b" two"], [b"a"]])
async def test_what_was_looked_at_comes_as_it_does_otherwise(
    store: DiskStore, pieces: list[bytes | Span] | None
) -> None:
    body = await stored(store)
    source = from_file(body, pieces)
    await source.look()
    await source.look()
    assert source.seen
    expected = b"".join(
        piece if isinstance(piece, bytes) else CONTENT[piece.first : piece.stop]
        for piece in pieces or [Span(0, len(CONTENT))]
    )
    assert (await taken(source)).body == expected


async def test_a_look_finds_that_another_file_took_the_place(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = await stored(store)
    await stored(store, CONTENT[::-1])
    not_cached(monkeypatch)
    source = from_file(body)
    assert not source.seen
    with pytest.raises(StoredContentError):
        await source.look()
    assert source._descriptor < 0
    await store.flush()
    assert place(store).exists()


async def test_a_look_finds_damage(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    body = await stored(store)
    flip(place(store), place(store).stat().st_size // 20)
    not_cached(monkeypatch)
    with pytest.raises(StoredContentError, match="block 0"):
        await from_file(body).look()
    await store.flush()
    assert not place(store).exists()


async def test_a_file_stays_open_while_a_thread_looks_for_nobody(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = await stored(store)
    not_cached(monkeypatch)
    gate, real = threading.Event(), os.pread

    def slow(*given: Any) -> bytes:
        gate.wait(10)
        return real(*given)

    monkeypatch.setattr(os, "pread", slow)
    source = from_file(body)
    looking = asyncio.create_task(source.look())
    await asyncio.sleep(0)
    looking.cancel()
    await asyncio.wait([looking])
    source.cancel()
    assert source._descriptor >= 0
    gate.set()
    await until(lambda: source._descriptor < 0)


async def test_a_file_that_is_replaced_while_it_is_sent_goes_on_as_it_was(
    store: DiskStore,
) -> None:
    body = await stored(store)
    source = body.source()
    taker = Taker()
    source.start(taker)
    await stored(store, b"new")
    await taker.ended.wait()
    assert taker.body == CONTENT


async def test_damage_in_the_first_chunk_is_a_miss(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    body = await stored(store)
    flip(place(store), place(store).stat().st_size // 20)
    if NOWAIT:
        with pytest.raises(StoredContentError, match="block 0"):
            body.source()
        await store.flush()
        assert not place(store).exists()
        assert "block 0 does not match its checksum" in caplog.text


@pytest.mark.usefixtures("page_cache")
async def test_damage_further_on_ends_the_answer_before_it(store: DiskStore) -> None:
    body = await stored(store)
    path = place(store)
    at = path.stat().st_size - 50_000
    flip(path, at)
    taker = await taken(body.source())
    assert isinstance(taker.error, StoredContentError)
    assert taker.ends == 1
    assert taker.body == CONTENT[: 2 * CHUNK_BYTES]
    await store.flush()
    assert not path.exists()


async def test_a_file_that_is_cut_short_while_it_is_sent_ends_the_answer(
    store: DiskStore,
) -> None:
    body = await stored(store)
    source = body.source()
    os.truncate(place(store), place(store).stat().st_size - 1)
    taker = await taken(source)
    assert isinstance(taker.error, StoredContentError)
    assert taker.body == CONTENT[: 2 * CHUNK_BYTES]


async def test_an_error_of_the_disk_ends_the_answer_and_leaves_the_file(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = await stored(store)

    def fail(*_args: object) -> bytes:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(os, "pread", fail)
    if NOWAIT:
        monkeypatch.setattr(os, "preadv", fail)
        with pytest.raises(StoredContentError, match="the disk is broken"):
            body.source()
    not_cached(monkeypatch)
    taker = await taken(body.source())
    assert "the disk is broken" in str(taker.error)
    await store.flush()
    assert place(store).exists()


async def test_an_error_after_the_first_chunk_is_looked_into_by_a_thread(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = await stored(store)
    source = body.source()

    def fail(*_args: object) -> int:
        raise OSError(errno.EIO, "the disk is broken")

    monkeypatch.setattr(os, "preadv", fail, raising=False)
    assert (await taken(source)).body == CONTENT


async def test_a_file_whose_start_is_damaged_under_way_is_removed(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = await stored(store)
    not_cached(monkeypatch)
    path = place(store)
    path.write_bytes(bytes(path.stat().st_size))
    taker = await taken(body.source())
    assert isinstance(taker.error, StoredContentError)
    assert taker.body == b""
    await store.flush()
    assert not path.exists()


async def test_damage_that_a_thread_finds_for_nobody_is_removed_all_the_same(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = await stored(store)
    flip(place(store), place(store).stat().st_size // 20)
    not_cached(monkeypatch)
    source = body.source()
    consumer: Consumer = Taker()
    source.start(consumer)
    source.cancel()
    await until(lambda: not place(store).exists())
