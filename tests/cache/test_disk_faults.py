"""Whatever happens to the disk or to its users, no wrong byte comes out: the worst is a miss."""

import asyncio
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.cache import disk_file
from proxy.cache.disk import DiskStore
from proxy.cache.disk_folder import TEMPORARY, name_of, path_of
from proxy.cache.disk_reader import DiskBody
from proxy.cache.entry import Entry
from proxy.cache.store import Later, Marker
from proxy.errors import StoredContentError
from tests.cache.conftest import Clocks
from tests.cache.making import entry
from tests.cache.taking import Notes, taken


async def look_up(store: DiskStore, key: bytes, variant: bytes = b"") -> Entry | Marker | None:
    found = store.read_now(key, variant)
    return await store.read(key, variant) if isinstance(found, Later) else found


async def content_of(entry: Entry) -> bytes | None:
    """Return all of the content, None when it turns out to be damaged."""
    if isinstance(entry.body, bytes):
        return entry.body
    try:
        taker = await taken(entry.body.source())
    except StoredContentError:
        return None
    return taker.body if taker.error is None else None


def place(store: DiskStore, key: bytes, variant: bytes = b"") -> Path:
    return Path(path_of(store.root, name_of(key, variant)))


# Damage.


@pytest.mark.parametrize("kind", ["small", "streamed", "marker"])
async def test_no_flipped_bit_comes_out(store: DiskStore, kind: str) -> None:
    one = entry(b"k", b"the content", vary=(b"a",) if kind == "marker" else ())
    if kind == "streamed":
        writer = store.begin(entry(b"k", b""))
        assert writer is not None
        writer.write(b"the content")
        assert await writer.commit()
    else:
        store.put(one)
    await store.flush()
    path = place(store, b"k")
    whole = path.read_bytes()
    for at in range(len(whole)):
        if 600 < at < len(whole) - 100 and at % 10:
            continue  # empty slots, for the most part
        damaged = bytearray(whole)
        damaged[at] ^= 1 << random.randrange(8)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(damaged)
        found = await look_up(store, b"k")
        if kind == "marker":
            assert found is None, at
        elif found is not None:
            # Only the room that is left for a longer head means nothing.
            assert kind == "streamed"
            assert isinstance(found, Entry)
            assert (found.body, found.fields) == (one.body, one.fields)
        if found is None:
            await store.flush()
            assert not path.exists()


async def test_no_truncated_file_comes_out(store: DiskStore) -> None:
    store.put(entry(b"k", b"the content"))
    await store.flush()
    path = place(store, b"k")
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert await look_up(store, b"k") is None
        await store.flush()
        assert not path.exists()


async def test_a_large_truncated_file_is_a_miss(store: DiskStore) -> None:
    store.put(entry(b"k", bytes(2_000_000)))
    await store.flush()
    os.truncate(place(store, b"k"), 1_900_000)
    assert await look_up(store, b"k") is None
    await store.flush()
    assert not place(store, b"k").exists()


async def test_a_damaged_block_of_content_in_memory_is_a_miss(
    store: DiskStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.put(entry(b"k", os.urandom(500_000)))
    await store.flush()
    path = place(store, b"k")
    data = bytearray(path.read_bytes())
    data[250_000] ^= 1
    path.write_bytes(data)
    assert await look_up(store, b"k") is None
    assert await look_up(store, b"k") is None
    await store.flush()
    assert f"removed: {path}: its block 3 does not match its checksum" in caplog.text


async def test_files_of_others_are_a_miss(store: DiskStore) -> None:
    store.put(entry(b"k"))
    await store.flush()
    for data in (b"", b"#!/bin/sh\n", bytes(100_000), os.urandom(100_000)):
        place(store, b"k").write_bytes(data)
        assert await look_up(store, b"k") is None
        await store.flush()


@pytest.mark.parametrize("head", [b"of another make", bytes(5_000_000)])
async def test_heads_that_make_no_sense_are_a_miss(store: DiskStore, head: bytes) -> None:
    path = place(store, b"k")
    path.parent.mkdir(parents=True)
    layout = disk_file.fixed_layout(bytes(8), head)
    path.write_bytes(b"".join(disk_file.whole_file(layout, head, b"content")))
    assert await look_up(store, b"k") is None
    await store.flush()
    assert not path.exists()


async def test_links_are_not_followed(store: DiskStore, tmp_path: Path) -> None:
    store.put(entry(b"k"))
    await store.flush()
    path = place(store, b"k")
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert await look_up(store, b"k") is None


# Clocks.


async def test_a_wall_clock_that_jumps_changes_nothing(store: DiskStore, clocks: Clocks) -> None:
    store.put(entry(b"k"))
    await store.flush()
    for wall in (0.0, 9e9):
        clocks.wall, clocks.monotonic = wall, 130.0
        found = await look_up(store, b"k")
        assert isinstance(found, Entry)
        assert (found.fresh_until, found.no_cache) == (160.0, False)


async def test_after_a_reboot_with_a_clock_set_back_all_is_validated(
    store: DiskStore, tmp_path: Path, clocks: Clocks, notes: Notes
) -> None:
    store.put(entry(b"k"))
    await store.flush()
    rebooted = DiskStore(
        tmp_path / "cache",
        notes,
        wall=lambda: clocks.wall - 1000,
        monotonic=lambda: 5.0,
        boot=b"1" * 16,
    )
    found = await look_up(rebooted, b"k")
    assert isinstance(found, Entry)
    assert found.no_cache
    assert found.fresh_until <= 5.0
    await rebooted.close()


# The folder.


@pytest.fixture
def sealed(tmp_path: Path) -> Iterator[Path]:
    """A folder that nobody may enter."""
    if os.geteuid() == 0:
        pytest.skip("root may enter every folder")
    folder = tmp_path / "sealed"
    folder.mkdir(0o000)
    yield folder
    folder.chmod(0o700)


async def test_a_folder_that_may_not_be_entered_is_a_miss(
    sealed: Path, notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    store = DiskStore(sealed / "cache", notes)
    assert await look_up(store, b"k") is None
    store.put(entry(b"k"))
    await store.flush()
    assert await look_up(store, b"k") is None
    assert not store.put(entry(b"k"))
    assert caplog.text.count("could not be written") == 1
    assert caplog.text.count("could not be read") == 1
    await store.close()


async def test_a_file_in_the_place_of_the_folder_is_a_miss(
    tmp_path: Path, notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cache").write_text("")
    store = DiskStore(tmp_path / "cache", notes)
    for _ in range(3):
        assert await look_up(store, b"k") is None
        assert await store.read(b"k") is None
    store.put(entry(b"k"))
    store.put(entry(b"l", vary=(b"a",), variant=b"x"))
    store.drop(b"k")
    await store.flush()
    assert "could not be written: [Errno 20]" in caplog.text
    assert caplog.text.count("could not be read") == 1
    await store.close()


async def test_folders_that_are_removed_are_made_again(store: DiskStore) -> None:
    for _ in range(2):
        store.put(entry(b"k"))
        await store.flush()
        assert isinstance(await look_up(store, b"k"), Entry)
        shutil.rmtree(store.root)
        assert await look_up(store, b"k") is None


async def test_errors_of_reading_are_a_miss(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store.put(entry(b"k"))
    await store.flush()

    def fail(*_args: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "preadv", fail, raising=False)
    monkeypatch.setattr(os, "pread", fail)
    for _ in range(3):
        assert await look_up(store, b"k") is None
        assert await store.read(b"k") is None
    monkeypatch.undo()
    assert isinstance(await look_up(store, b"k"), Entry)
    assert caplog.text.count("Input/output error") == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    if os.geteuid() or sys.platform != "linux":
        pytest.skip("mounting a small tmpfs takes root on Linux")
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


async def test_a_full_disk_keeps_what_it_has_and_takes_no_more(
    small_disk: Path, notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    now = [100.0]
    store = DiskStore(small_disk / "cache", notes, monotonic=lambda: now[0])
    contents = {b"%d" % number: os.urandom(300_000) for number in range(30)}
    for key, content in contents.items():
        store.put(entry(key, content))
        await store.flush()
        now[0] += 11
        writer = store.begin(entry(b"s" + key, b""))
        assert writer is not None
        writer.write(content)
        await writer.commit()
        writer.abandon()
        now[0] += 11
    found = 0
    for key, content in contents.items():
        for name in (key, b"s" + key):
            one = await look_up(store, name)
            if one is not None:
                assert isinstance(one, Entry)
                assert await content_of(one) == content
                found += 1
    assert 5 <= found <= 14
    assert "No space left on device" in caplog.text
    assert os.listdir(small_disk / "cache" / TEMPORARY) == []
    for key in contents:
        store.drop(key)
        store.drop(b"s" + key)
    await store.flush()
    now[0] += 11
    assert store.put(entry(b"k", bytes(300_000)))
    await store.flush()
    assert isinstance(await look_up(store, b"k"), Entry)
    await store.close()


# Other processes.

WRITER = """
import asyncio, hashlib, os, random, sys
from pathlib import Path
from proxy.cache import disk_file
from proxy.cache.disk import DiskStore
from tests.cache.making import entry
from tests.cache.taking import Notes

async def main():
    store = DiskStore(Path(sys.argv[1]), Notes())
    count = 0
    while True:
        count += 1
        key = b"%d" % random.randrange(8)
        content = os.urandom(random.choice([100, 70_000, 400_000]))
        tag = hashlib.sha256(content).digest()
        vary = random.choice([(), (b"a",)])
        one = entry(key, content, vary=vary, variant=b"v" if vary else b"", tags=(tag,))
        if random.random() < 0.5:
            store.put(one)
            await store.flush()
        else:
            one.body = b""
            writer = store.begin(one)
            for first in range(0, len(content), 50_000):
                writer.write(content[first : first + 50_000])
                await asyncio.sleep(0)
            done = await writer.commit()
            done.fresh_until += 1
            store.put(done)
            await store.flush()
        if count == 1:
            print("begun", flush=True)

asyncio.run(main())
"""


async def check_all(store: DiskStore) -> int:
    """See that whatever is found has the content that its tag is the hash of; returns how many."""
    found = 0
    for number in range(8):
        for variant in (b"", b"v"):
            one = await look_up(store, b"%d" % number, variant)
            if not isinstance(one, Entry):
                continue
            content = await content_of(one)
            if content is not None:
                assert (hashlib.sha256(content).digest(),) == one.tags
                found += 1
    return found


def start_writer(folder: Path) -> "subprocess.Popen[bytes]":
    child = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    assert child.stdout.readline() == b"begun\n"
    return child


def kill(child: "subprocess.Popen[bytes]") -> None:
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert child.stdout is not None
    child.stdout.close()


async def test_killing_a_writer_at_any_moment_leaves_no_wrong_byte(
    tmp_path: Path, notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "cache"
    store = DiskStore(folder, notes)
    found = 0
    for _ in range(8):
        child = await asyncio.to_thread(start_writer, folder)
        await asyncio.sleep(random.uniform(0, 0.03))
        kill(child)
        found += await check_all(store)
    assert found
    # What is renamed is whole: a process that ends is no damage.
    assert "damaged" not in caplog.text
    await store.close()


async def test_two_processes_on_one_folder_never_meet_half_a_file(
    tmp_path: Path, notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "cache"
    store = DiskStore(folder, notes, object_bytes=200_000)
    children = [await asyncio.to_thread(start_writer, folder) for _ in range(2)]
    end = time.monotonic() + 1.0
    found = 0
    while time.monotonic() < end:
        found += await check_all(store)
        await asyncio.sleep(0)
    for child in children:
        kill(child)
    assert found > 10
    assert "damaged" not in caplog.text
    await store.close()


async def test_a_body_outlives_the_removal_of_its_file_while_it_is_read(store: DiskStore) -> None:
    content = os.urandom(3_000_000)
    store.put(entry(b"k", content))
    await store.flush()
    one = await look_up(store, b"k")
    assert isinstance(one, Entry)
    assert isinstance(one.body, DiskBody)
    source = one.body.source()
    store.drop(b"k")
    await store.flush()
    assert (await taken(source)).body == content
