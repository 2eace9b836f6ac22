"""Entries on disk: what was stored is found, by every process, and everything else is a miss."""

import asyncio
import errno
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiofiles.os import wrap

from proxy.cache import disk, disk_folder, disk_load, disk_reader, disk_work
from proxy.cache.disk import SLOW_FOR_S, TURN_BYTES, DiskStore
from proxy.cache.disk_folder import name_of, path_of
from proxy.cache.disk_reader import DiskBody
from proxy.cache.entry import Entry
from proxy.cache.head import Head
from proxy.cache.store import LATER, Later, Marker
from proxy.message import Fields
from proxy.page_cache import NOWAIT
from tests.cache.conftest import Clocks
from tests.cache.making import entry
from tests.cache.taking import Notes, taken


async def stored(store: DiskStore, one: Entry) -> Entry:
    """Store an entry, and return it as it is found."""
    assert store.put(one)
    await store.flush()
    found = await look_up(store, one.key, one.variant)
    assert isinstance(found, Entry)
    return found


async def look_up(store: DiskStore, key: bytes, variant: bytes = b"") -> Entry | Marker | None:
    found = store.read_now(key, variant)
    return await store.read(key, variant) if isinstance(found, Later) else found


def place(store: DiskStore, key: bytes, variant: bytes = b"") -> Path:
    return Path(path_of(store.root, name_of(key, variant)))


@pytest.fixture(params=["cached", "not cached", "cannot tell", "no such call"])
def page_cache(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "no such call":
        monkeypatch.setattr(disk, "NOWAIT", 0)
        monkeypatch.setattr(disk_reader, "NOWAIT", 0)
    elif request.param != "cached":
        number = errno.EAGAIN if request.param == "not cached" else errno.EOPNOTSUPP

        def refuse(*_args: object) -> int:
            raise OSError(number, "refused")

        monkeypatch.setattr(os, "preadv", refuse, raising=False)
    return str(request.param)


SIZES = [0, 1, 5000, 65536, 65537, 300_000, 1024 * 1024]


@pytest.mark.usefixtures("page_cache")
@pytest.mark.parametrize("size", SIZES)
async def test_what_was_stored_is_found(store: DiskStore, size: int) -> None:
    one = entry(b"http://a/?q=1", os.urandom(size), tags=(b"t",), purge_seq=7)
    found = await stored(store, one)
    assert found.body == one.body
    for name in ("key", "status", "fields", "tags", "purge_seq", "born_at", "fresh_until"):
        assert getattr(found, name) == getattr(one, name)
    assert await look_up(store, b"http://a/?q=2") is None


async def test_a_disk_that_is_slow_is_written_to_in_a_thread(
    store: DiskStore, clocks: Clocks, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, threads, slow_s = disk_work.do_all, [], [1.0, 0.0, 0.0]
    done = asyncio.Event()
    loop = asyncio.get_running_loop()

    def do_all(*arguments: Any) -> list[int | Exception]:
        threads.append(threading.current_thread() is threading.main_thread())
        clocks.monotonic += slow_s.pop(0)
        loop.call_soon_threadsafe(done.set)
        return real(*arguments)

    monkeypatch.setattr(disk_work, "do_all", do_all)
    monkeypatch.setattr(disk, "_do_all", wrap(do_all))
    for number in range(3):
        store.put(entry(b"%d" % number, b"x"))
        await done.wait()
        done.clear()
        if number == 1:
            clocks.monotonic += SLOW_FOR_S
            await store.flush()
    assert threads == [True, False, True]
    for number in range(3):
        assert await look_up(store, b"%d" % number) is not None


async def test_much_at_once_is_written_in_a_thread(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_work, "do_all", None)
    assert (await stored(store, entry(b"k", bytes(TURN_BYTES)))).size_bytes == TURN_BYTES


@pytest.mark.parametrize("size", [10, 2 * TURN_BYTES], ids=["on the loop", "in a thread"])
async def test_an_error_that_nobody_foresaw_costs_one_entry(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, size: int
) -> None:
    real = disk_folder.store_whole

    def fail(root: str, name: bytes, parts: Sequence[bytes | memoryview]) -> int:
        if name == name_of(b"bad", b""):
            raise ZeroDivisionError("a fault of ours")
        return real(root, name, parts)

    monkeypatch.setattr(disk_folder, "store_whole", fail)
    for _ in range(2):
        assert store.put(entry(b"bad", bytes(size)))
        assert store.put(entry(b"good", bytes(size)))
        await store.flush()
    assert await look_up(store, b"bad") is None
    assert await look_up(store, b"good") is not None
    assert caplog.text.count("an error that proxyd did not foresee") == 1
    assert "a fault of ours" in caplog.text
    assert (await stored(store, entry(b"later"))).key == b"later"
    assert store._queued_bytes == 0


async def test_what_is_cached_is_found_without_waiting(store: DiskStore) -> None:
    await stored(store, entry(b"k", bytes(200_000)))
    assert isinstance(store.read_now(b"k"), Entry if NOWAIT else Later)


async def test_much_content_is_left_to_a_thread(store: DiskStore) -> None:
    await stored(store, entry(b"k", bytes(300_000)))
    assert store.read_now(b"k") is LATER
    assert await store.read(b"k") is not None


async def test_long_heads_are_found(store: DiskStore) -> None:
    lines = tuple((b"X-%d" % number, bytes(30_000)) for number in range(3))
    found = await stored(store, entry(b"k", b"body", lines))
    assert found.fields == Fields(lines)
    assert found.body == b"body"


async def test_another_store_on_the_same_folder_finds_it(
    store: DiskStore, tmp_path: Path, notes: Notes
) -> None:
    await stored(store, entry(b"k"))
    other = DiskStore(tmp_path / "cache", notes)
    assert isinstance(await look_up(other, b"k"), Entry)
    await other.close()


async def test_a_later_entry_takes_the_place_of_an_earlier(store: DiskStore) -> None:
    await stored(store, entry(b"k", b"1"))
    assert (await stored(store, entry(b"k", b"2"))).body == b"2"


async def test_dropping_removes_the_file(store: DiskStore, notes: Notes) -> None:
    await stored(store, entry(b"k"))
    store.drop(b"k")
    store.drop(b"never there")
    await store.flush()
    assert await look_up(store, b"k") is None
    assert not place(store, b"k").exists()
    assert notes.dropped == [name_of(b"k", b""), name_of(b"never there", b"")]


async def test_changes_are_done_in_the_order_in_which_they_came(store: DiskStore) -> None:
    store.put(entry(b"k", b"1"))
    store.drop(b"k")
    store.put(entry(b"other"))
    store.put(entry(b"k", b"2"))
    await store.flush()
    found = await look_up(store, b"k")
    assert isinstance(found, Entry)
    assert found.body == b"2"


async def test_variants_are_found_through_the_marker_of_their_key(store: DiskStore) -> None:
    german = entry(b"k", b"de", vary=(b"accept-language",), variant=b"de")
    coded = entry(b"k", b"br", vary=(b"accept-encoding",), variant=b"br")
    french = entry(b"k", b"fr", vary=(b"accept-language",), variant=b"fr")
    for one in (german, coded, french, french):
        assert (await stored(store, one)).body == one.body
    marker = await look_up(store, b"k")
    assert isinstance(marker, Marker)
    assert marker.lists == ((b"accept-language",), (b"accept-encoding",))
    assert await look_up(store, b"k", b"nl") is None


async def test_lists_of_names_are_bounded(store: DiskStore) -> None:
    for number in range(10):
        store.put(entry(b"k", vary=(b"n%d" % number,), variant=b"v"))
    await store.flush()
    marker = await look_up(store, b"k")
    assert isinstance(marker, Marker)
    assert marker.lists == tuple((b"n%d" % number,) for number in range(9, 1, -1))


async def test_a_damaged_marker_is_made_anew(store: DiskStore) -> None:
    store.put(entry(b"k", vary=(b"a",), variant=b"v"))
    await store.flush()
    place(store, b"k").write_bytes(b"damaged")
    store.put(entry(b"k", vary=(b"b",), variant=b"v"))
    await store.flush()
    marker = await look_up(store, b"k")
    assert isinstance(marker, Marker)
    assert marker.lists == ((b"b",),)


async def test_a_file_of_another_key_is_a_miss_and_stays(store: DiskStore) -> None:
    await stored(store, entry(b"k"))
    await stored(store, entry(b"v", vary=(b"a",), variant=b"x"))
    for other, key, variant in ((b"o", b"k", b""), (b"p", b"v", b"x"), (b"q", b"v", b"")):
        place(store, other).parent.mkdir(parents=True, exist_ok=True)
        os.link(place(store, key, variant), place(store, other))
        assert await look_up(store, other) is None
        assert place(store, other).exists()


async def test_the_journal_learns_of_every_file(
    store: DiskStore, notes: Notes, clocks: Clocks
) -> None:
    one = entry(b"k", b"x" * 1000, vary=(b"a",), variant=b"v")
    await stored(store, one)
    expected = []
    for variant in (b"v", b""):
        size = place(store, b"k", variant).stat().st_size
        expected.append((name_of(b"k", variant), size, clocks.wall + 1000 - clocks.monotonic))
    assert notes.puts == expected
    await stored(store, one)
    assert notes.puts == expected * 2
    notes.touched.clear()
    await look_up(store, b"k")
    await look_up(store, b"k", b"v")
    store.touch(one)
    store.touch(entry(b"plain"))
    marker, variant = name_of(b"k", b""), name_of(b"k", b"v")
    assert notes.touched == [marker, variant, variant, marker, name_of(b"plain", b"")]


async def test_large_content_stays_on_disk_and_streams(store: DiskStore) -> None:
    content = os.urandom(1024 * 1024 + 1)
    found = await stored(store, entry(b"k", content))
    assert isinstance(found.body, DiskBody)
    assert found.size_bytes == len(content)
    assert found.cost_bytes < 5000
    assert (await taken(found.body.source())).body == content


async def test_heads_can_be_read_alone(store: DiskStore) -> None:
    await stored(store, entry(b"k", bytes(100_000)))
    await stored(store, entry(b"v", vary=(b"a",), variant=b"x"))
    head = disk_load.read_head(str(place(store, b"k")))
    assert isinstance(head, Head)
    assert (head.key, head.size_bytes) == (b"k", 100_000)
    assert not isinstance(disk_load.read_head(str(place(store, b"v"))), Head)


async def test_content_of_no_known_kind_is_not_stored(store: DiskStore) -> None:
    class Elsewhere:
        size_bytes = 5

    assert not store.put(entry(b"k", Elsewhere()))


# A head that is refreshed in place.


async def streamed(store: DiskStore, one: Entry, content: bytes) -> Entry:
    writer = store.begin(one)
    assert writer is not None
    writer.write(content)
    done = await writer.commit()
    assert done is one
    return one


async def test_a_validated_head_is_written_beside_the_old_one(
    store: DiskStore, notes: Notes
) -> None:
    content = os.urandom(100_000)
    one = await streamed(store, entry(b"k", b""), content)
    before = place(store, b"k").stat()
    for number in range(5):
        one.set_fields(Fields([(b"ETag", b'"%d"' % number)]))
        one.fresh_until = 500.0 + number
        assert store.put(one)
        await store.flush()
        found = await look_up(store, b"k")
        assert isinstance(found, Entry)
        assert found.fresh_until == 500.0 + number
        assert found.etag == b'"%d"' % number
        assert found.body == content
    after = place(store, b"k").stat()
    assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)
    assert len(notes.puts) == 6


async def test_a_head_that_outgrew_its_room_takes_its_file_along(
    store: DiskStore, notes: Notes
) -> None:
    one = await streamed(store, entry(b"k", b""), bytes(100))
    one.set_fields(Fields([(b"X", bytes(5000))]))
    store.put(one)
    await store.flush()
    assert await look_up(store, b"k") is None
    assert notes.dropped == [name_of(b"k", b"")]


async def test_a_head_is_not_written_into_a_file_that_took_the_place(store: DiskStore) -> None:
    old = await streamed(store, entry(b"k", b""), b"old")
    await stored(store, entry(b"k", b"new"))
    old.fresh_until = 999.0
    store.put(old)
    await store.flush()
    found = await look_up(store, b"k")
    assert isinstance(found, Entry)
    assert (found.body, found.fresh_until) == (b"new", 160.0)


@pytest.mark.parametrize("damage", ["gone", "damaged"])
async def test_refreshing_what_is_not_there_is_nothing(
    store: DiskStore, notes: Notes, damage: str
) -> None:
    one = await streamed(store, entry(b"k", b""), b"content")
    if damage == "gone":
        place(store, b"k").unlink()
    else:
        place(store, b"k").write_bytes(b"damaged")
    store.put(one)
    await store.flush()
    assert await look_up(store, b"k") is None
    assert notes.dropped == [name_of(b"k", b"")]


async def test_very_long_heads_are_refreshed(store: DiskStore) -> None:
    one = await streamed(store, entry(b"k", b"", ((b"X", bytes(100_000)),)), b"content")
    one.fresh_until = 999.0
    store.put(one)
    await store.flush()
    found = await look_up(store, b"k")
    assert isinstance(found, Entry)
    assert (found.body, found.fresh_until) == (b"content", 999.0)


# The queue's bounds.


async def test_more_than_the_queue_holds_is_not_stored(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "MOST_QUEUED_BYTES", 100_000)
    assert store.put(entry(b"1", bytes(60_000)))
    assert not store.put(entry(b"2", bytes(60_000)))
    assert store.drop(b"1")
    await store.flush()
    assert store.put(entry(b"2", bytes(60_000)))
    monkeypatch.setattr(disk, "MOST_JOBS", 1)
    assert not store.drop(b"3")


async def test_files_are_written_off_the_event_loop(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop_thread = asyncio.get_running_loop()
    seen: list[bool] = []
    real: Callable[..., Any] = os.rename

    def rename(*args: Any) -> None:
        try:
            seen.append(asyncio.get_running_loop() is loop_thread)
        except RuntimeError:
            seen.append(False)
        real(*args)

    monkeypatch.setattr(os, "rename", rename)
    await stored(store, entry(b"k"))
    assert not any(seen)
    assert seen


async def test_a_closed_store_takes_nothing_more(store: DiskStore) -> None:
    await store.close()
    assert not store.put(entry())
    assert store.begin(entry()) is None
