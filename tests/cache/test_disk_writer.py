"""Content is stored while it streams: whole and found by all, or not at all."""

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.cache import disk_writer
from proxy.cache.disk import DiskStore
from proxy.cache.disk_folder import TEMPORARY
from proxy.cache.disk_reader import DiskBody
from proxy.cache.disk_writer import CHUNK_BYTES, MOST_WAITING_BYTES, PAUSE_BYTES, DiskWriter
from proxy.cache.entry import Entry
from proxy.cache.store import Later, Marker
from proxy.errors import StoredContentError
from proxy.message import Fields
from proxy.rules.ranges import Span
from tests.cache.conftest import Clocks
from tests.cache.making import entry
from tests.cache.taking import Notes, taken, until


def begun(
    store: DiskStore, key: bytes = b"k", drained: Callable[[], None] = lambda: None, **others: Any
) -> DiskWriter:
    writer = store.begin(entry(key, b"", **others), drained)
    assert writer is not None
    return writer


async def look_up(store: DiskStore, key: bytes, variant: bytes = b"") -> Entry | Marker | None:
    found = store.read_now(key, variant)
    return await store.read(key, variant) if isinstance(found, Later) else found


def on_their_way(store: DiskStore) -> list[str]:
    folder = Path(store.root, TEMPORARY)
    return os.listdir(folder) if folder.exists() else []


async def until_none_is_on_its_way(store: DiskStore) -> None:
    await until(lambda: not on_their_way(store))


class Gate:
    """Holds the threads that write until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.event = threading.Event()
        real = os.writev

        def writev(*args: Any) -> int:
            self.event.wait(10)
            return real(*args)

        monkeypatch.setattr(os, "writev", writev)


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 1_000_000, 3_000_000])
@pytest.mark.parametrize("piece", [1000, 65_536, 700_000])
async def test_content_is_found_once_it_is_committed(
    store: DiskStore, size: int, piece: int
) -> None:
    content = os.urandom(size)
    writer = begun(store)
    for first in range(0, size, piece):
        writer.write(content[first : first + piece])
        await asyncio.sleep(0)
    assert await look_up(store, b"k") is None
    done = await writer.commit(Fields([(b"Digest", b"x")]))
    assert done is not None
    assert done.size_bytes == size
    found = await look_up(store, b"k")
    assert isinstance(found, Entry)
    assert found.trailers == Fields([(b"Digest", b"x")])
    assert found.size_bytes == size
    for body in (done.body, found.body):
        assert (body if isinstance(body, bytes) else (await taken(body.source())).body) == content
    assert on_their_way(store) == []


async def test_a_variant_is_found_through_its_marker(store: DiskStore, notes: Notes) -> None:
    writer = begun(store, vary=(b"a",), variant=b"x")
    writer.write(b"content")
    await writer.commit()
    await store.flush()
    assert isinstance(await look_up(store, b"k"), Marker)
    found = await look_up(store, b"k", b"x")
    assert isinstance(found, Entry)
    assert found.body == b"content"
    assert len(notes.puts) == 2


async def test_who_reads_back_gets_what_was_written_although_another_has_taken_its_name(
    store: DiskStore,
) -> None:
    """As when two workers store what one of them has from the other."""
    contents = [os.urandom(300_000), os.urandom(200_000)]
    writers = [begun(store) for _ in contents]
    for writer, content in zip(writers, contents, strict=True):
        writer.write(content)
        assert await writer.commit() is not None
    first = writers[0]
    back = first.read_back(Span(70_000, first.written_bytes))
    first.release()
    assert (await taken(back)).body == contents[0][70_000:]
    with pytest.raises(StoredContentError, match="Bad file descriptor"):
        first.read_back(Span(0, 1))


async def test_what_is_not_committed_stays_open(store: DiskStore) -> None:
    writer = begun(store)
    writer.write(bytes(CHUNK_BYTES))
    await until(lambda: bool(writer.written_bytes))
    writer.release()
    back = writer.read_back(Span(0, writer.written_bytes))
    assert len((await taken(back)).body) == CHUNK_BYTES
    writer.abandon()


async def test_what_is_abandoned_leaves_nothing(store: DiskStore) -> None:
    for size in (0, 1000, CHUNK_BYTES, 10 * CHUNK_BYTES):
        writer = begun(store)
        writer.write(bytes(size))
        await asyncio.sleep(0)
        writer.abandon()
        writer.abandon()
        assert writer.write(b"more")
        assert await writer.commit() is None
        await until_none_is_on_its_way(store)
        assert await look_up(store, b"k") is None


async def test_a_slow_disk_asks_for_a_pause(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, drained = Gate(monkeypatch), asyncio.Event()
    writer = begun(store, drained=drained.set)
    assert writer.write(bytes(PAUSE_BYTES))
    assert not writer.write(b"x")
    await asyncio.sleep(0)
    assert not drained.is_set()
    gate.event.set()
    await drained.wait()
    assert writer.write(b"y")
    done = await writer.commit()
    assert done is not None
    assert done.size_bytes == PAUSE_BYTES + 2


async def test_content_that_does_not_pause_is_given_up(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "proxyd.cache")
    gate, drained = Gate(monkeypatch), asyncio.Event()
    writer = begun(store, drained=drained.set)
    writer.write(bytes(PAUSE_BYTES + 1))
    await asyncio.sleep(0)
    assert writer.write(bytes(MOST_WAITING_BYTES))
    gate.event.set()
    await drained.wait()
    assert await writer.commit() is None
    await until_none_is_on_its_way(store)
    assert "faster than the disk" in caplog.text


async def test_no_more_writers_than_allowed_begin(store: DiskStore) -> None:
    writers = [begun(store, b"%d" % number) for number in range(4)]
    assert store.begin(entry(b"k", b"")) is None
    writers[0].abandon()
    await writers[1].commit()
    begun(store)
    begun(store)
    assert store.begin(entry(b"k", b"")) is None


@pytest.mark.parametrize("call", ["writev", "pwrite", "rename", "open"])
@pytest.mark.parametrize("size", [1000, 3 * CHUNK_BYTES])
async def test_a_full_disk_stores_nothing_for_some_seconds(
    store: DiskStore,
    clocks: Clocks,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    call: str,
    size: int,
) -> None:
    real = getattr(os, call)

    def full(*args: Any, **options: Any) -> Any:
        if call == "open" and f"/{TEMPORARY}/" not in str(args[0]):
            return real(*args, **options)
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = begun(store)
    monkeypatch.setattr(os, call, full)
    writer.write(bytes(size))
    await asyncio.sleep(0)
    assert await writer.commit() is None
    assert writer.gave_up
    monkeypatch.undo()
    await until_none_is_on_its_way(store)
    assert "No space left on device" in caplog.text
    assert store.begin(entry(b"k", b"")) is None
    assert not store.put(entry(b"k"))
    assert store.drop(b"k")
    clocks.monotonic += 11
    assert await begun(store).commit() is not None


@pytest.mark.parametrize("fails_at", ["while it comes", "at its end"])
async def test_what_was_written_before_the_disk_was_full_can_be_read_back(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch, fails_at: str
) -> None:
    """A client that is not as far yet gets it from there."""
    content = os.urandom(CHUNK_BYTES)
    writer = begun(store)
    writer.write(content)
    await writer.settled()

    def full(*_args: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "writev", full)
    writer.write(bytes(CHUNK_BYTES if fails_at == "while it comes" else 10))
    assert await writer.commit() is None
    assert writer.gave_up
    await until_none_is_on_its_way(store)
    assert writer.written_bytes == CHUNK_BYTES
    back = writer.read_back(Span(1000, CHUNK_BYTES))
    writer.abandon()
    assert (await taken(back)).body == content[1000:]
    await until(lambda: writer._file.descriptor < 0)
    with pytest.raises(StoredContentError, match="Bad file descriptor"):
        writer.read_back(Span(0, 1))


async def test_a_disk_that_fails_asks_for_no_pause_any_more(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    drained = asyncio.Event()
    gate = threading.Event()

    def full(*_args: object) -> int:
        gate.wait(10)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "writev", full)
    writer = begun(store, drained=drained.set)
    assert not writer.write(bytes(PAUSE_BYTES + 1))
    gate.set()
    await drained.wait()
    assert writer.write(bytes(MOST_WAITING_BYTES))
    assert await writer.commit() is None


async def test_an_abandoned_writer_may_fail(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()

    def full(*_args: object) -> int:
        gate.wait(10)
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "writev", full)
    writer = begun(store)
    writer.write(bytes(CHUNK_BYTES))
    await asyncio.sleep(0)
    writer.abandon()
    gate.set()
    await writer.settled()
    await until_none_is_on_its_way(store)
    await until_none_is_on_its_way(store)


async def test_trailers_that_have_no_room_cost_the_entry(store: DiskStore) -> None:
    writer = begun(store)
    writer.write(b"content")
    assert await writer.commit(Fields([(b"X", bytes(10_000))])) is None
    assert await look_up(store, b"k") is None
    assert on_their_way(store) == []


async def test_closing_the_store_gives_up_what_streams(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = begun(store)
    writer.write(bytes(CHUNK_BYTES))
    begun(store, b"other")
    await store.close()
    await until_none_is_on_its_way(store)


async def test_a_short_write_is_gone_on_with(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.writev

    def short(descriptor: int, parts: Any) -> int:
        return real(descriptor, [b"".join(parts)[:100]])

    monkeypatch.setattr(os, "writev", short)
    content = os.urandom(200_000)
    writer = begun(store)
    writer.write(content)
    done = await writer.commit()
    assert done is not None
    assert isinstance(done.body, DiskBody)
    assert (await taken(done.body.source())).body == content


async def test_a_write_of_nothing_is_an_error(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "writev", lambda *_args: 0)
    monkeypatch.setattr(os, "write", lambda *_args: 0)
    writer = begun(store)
    writer.write(b"content")
    assert await writer.commit() is None


async def test_many_small_pieces_are_stored(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_writer, "CHUNK_BYTES", 100 * 1024 * 1024)
    monkeypatch.setattr(disk_writer, "PAUSE_BYTES", 100 * 1024 * 1024)
    monkeypatch.setattr(disk_writer, "MOST_WAITING_BYTES", 100 * 1024 * 1024)
    content = os.urandom(40 * 1024 * 1024)
    writer = begun(store)
    writer.write(content)
    done = await writer.commit()
    assert done is not None
    assert isinstance(done.body, DiskBody)
    assert (await taken(done.body.source())).body == content
