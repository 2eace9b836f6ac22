"""What keeps the folder of the disk cache within its limit, and its catalogue right."""

import fcntl
import itertools
import logging
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from proxy.cache import upkeep as module
from proxy.cache.codec import encode_marker
from proxy.cache.disk_folder import name_of
from proxy.cache.index import BLOCK_BYTES, INDEX
from proxy.cache.inventory import Item
from proxy.cache.journal import JOURNAL, Record
from proxy.cache.journal import Kind as Event
from proxy.cache.journal import encode as record_of
from proxy.cache.purges import Kind, Purges, Verdict
from proxy.cache.store import Marker
from proxy.cache.upkeep import IDLE_S, LEFTOVER_S, SCAN_EVERY_S, SWEEP_EVERY_S, TROUBLED_S
from tests.cache.keeping import KEY, Place
from tests.cache.making import entry

# What is past its time is found so much later at the most.
LATE_S = 256


@pytest.fixture
def place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Place]:
    caplog.set_level(logging.INFO)
    made = Place(tmp_path)
    yield made
    made.upkeep.close()
    made.journal.close()


def test_an_empty_folder_has_an_empty_catalogue(place: Place) -> None:
    assert place.work() == IDLE_S
    assert place.stats().files == 0


@pytest.mark.parametrize("tell_head", [False, True])
def test_what_a_worker_stores_is_described(place: Place, tell_head: bool) -> None:
    place.work()  # without the scan at the start, which reads all that is there
    place.pass_(0.5)
    path = place.put(
        1, size=70_000, tags=(b"a", b"b"), status=404, keep_s=500.0, tell_head=tell_head
    )
    if tell_head:
        path.write_bytes(bytes(path.stat().st_size))  # nobody looks
    place.work()
    (item,) = place.items()
    assert item == Item(
        name=path.name,
        key="http://h/1",
        variant="",
        size_bytes=path.stat().st_size,
        stored_at=1_000_000,
        used_at=1_000_000,
        keep_until=1_000_500,
        fresh_until=1_000_060,
        hits=0,
        status=404,
        content_type="text/plain",
        tags=("a", "b"),
    )


def test_what_was_purged_before_it_is_told_of_is_removed(place: Place) -> None:
    place.work()
    purges = Purges(place.folder)
    path = place.put(1, tags=(b"a",), purge_seq=purges.current(), tell_head=True)
    kept = place.put(2, tags=(b"b",), purge_seq=purges.current(), tell_head=True)
    purges.add(Kind.TAG, Verdict.HARD, b"a")
    place.work()
    assert not path.exists()
    assert kept.exists()
    assert place.keys() == [2]


def test_a_head_that_cannot_be_read_is_read_in_the_file(place: Place) -> None:
    path = place.put(1)
    place.journal.put(bytes.fromhex(path.name), path.stat().st_size, 2e6, b"of another version")
    place.journal.flush()
    place.work()
    assert place.keys() == [1]


def test_workers_learn_at_once_that_the_folder_was_removed(place: Place) -> None:
    """And not only at their next look: a tool may purge before that."""
    place.work()
    purges = Purges(place.folder)
    held = entry(KEY % 1, purge_seq=purges.current())
    place.folder.rename(place.folder.with_name("gone"))
    place.folder.mkdir()
    place.work()
    assert purges.verdict(held) is Verdict.INVALID
    tool = Purges(place.folder)
    tool.add(Kind.ALL, Verdict.HARD)
    assert purges.current() == tool.current()
    tool.close()
    purges.close()


def test_the_marker_of_a_key_with_vary_is_counted_and_not_listed(place: Place) -> None:
    name = name_of(KEY % 1, b"")
    size = place.store(name, encode_marker(Marker(KEY % 1, ((b"accept-language",),))))
    place.journal.put(name, size, place.wall + 100)
    place.journal.flush()
    place.put(1, variant=b"accept-language: de", vary=(b"accept-language",))
    place.work()
    assert [item.variant for item in place.items()] == ["accept-language: de"]
    assert place.stats().files == 2
    place.pass_(100 + LATE_S)
    place.work()
    assert place.stats().files == 1
    assert place.files() == 1


def test_files_that_no_journal_told_are_found_at_the_start(place: Place) -> None:
    place.put(1, tell=False)
    place.work()
    assert place.keys() == [1]
    place.put(2, tell=False)
    place.work()
    assert place.keys() == [1]
    place.begin()
    place.work()
    assert place.keys() == [1, 2]


def test_what_no_journal_told_is_found_within_a_day(place: Place) -> None:
    place.work()
    place.put(1, tell=False, keep_s=1e6)
    place.pass_(SCAN_EVERY_S)
    place.work()
    assert place.keys() == [1]


def test_lost_records_make_it_look(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.work()
    place.put(1, tell=False)
    (place.folder / JOURNAL).write_bytes(record_of(*Record(Event.LOST, bytes(16), 0, 0, 0)))
    place.work()
    assert place.keys() == [1]
    assert "1 files were not in it, 0 that were in it are gone" in caplog.text


def test_what_was_not_used_for_the_longest_time_makes_room(
    place: Place, caplog: pytest.LogCaptureFixture
) -> None:
    place.begin(limit_bytes=100 * BLOCK_BYTES)
    for number in range(100):
        place.put(number)
        place.pass_(1)
    place.work()
    assert len(place.keys()) == 100
    place.journal.touch(name_of(KEY % 0, b""))
    place.pass_(60)
    place.put(100)
    place.work()
    left = place.keys()
    assert len(left) == 97
    assert set(range(101)) - set(left) == {1, 2, 3, 4}
    assert place.files() == 97
    assert "4 files made room" in caplog.text


def test_room_is_made_in_steps(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "STEP_FILES", 3)
    place.begin(limit_bytes=10 * BLOCK_BYTES)
    for number in range(20):
        place.put(number)
        place.pass_(1)
    left = []
    while place.upkeep.step() < IDLE_S:
        left.append(place.files())
    assert max(before - after for before, after in itertools.pairwise(left)) == 3
    assert place.files() == 9


def test_a_disk_that_others_have_filled_makes_it_shrink(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def disk(_: object) -> SimpleNamespace:
        blocks = 1000 - place.files() - others
        return SimpleNamespace(f_bavail=blocks, f_blocks=1000, f_frsize=BLOCK_BYTES)

    monkeypatch.setattr(os, "statvfs", disk)
    others = 0
    for number in range(50):
        place.put(number)
        place.pass_(1)
    place.work()
    assert place.files() == 50
    others = 940
    place.pass_(10)
    place.work()
    assert place.files() == 20  # 2 % of the disk are free again, and 2 % more
    assert f"only {10 * BLOCK_BYTES} bytes are free" in caplog.text
    others = 2000
    place.pass_(10)
    assert place.work() == IDLE_S
    assert place.files() == 0


def test_what_is_past_its_time_is_removed(place: Place) -> None:
    place.put(1, keep_s=100.0)
    place.put(2, keep_s=600.0)
    place.work()
    place.pass_(100 + LATE_S)
    place.work()
    assert place.keys() == [2]
    assert place.files() == 1


def test_a_clock_that_jumps_ahead_removes_nothing_that_is_young(place: Place) -> None:
    place.put(1, keep_s=100.0)
    place.work()
    place.wall += 1_000_000
    place.work()
    assert place.files() == 1
    place.pass_(100 + LATE_S)
    place.work()
    assert place.files() == 0


def test_a_file_that_was_replaced_is_not_removed_for_the_old_ones_time(place: Place) -> None:
    place.put(1, keep_s=100.0)
    place.work()
    place.pass_(100)
    place.put(1, keep_s=500.0, tell=False)
    place.pass_(LATE_S)
    place.work()
    assert place.files() == 1
    assert place.items()[0].keep_until == 1_000_600


def test_times_without_end_have_none(place: Place) -> None:
    place.put(1, keep_s=float("inf"))
    place.work()
    place.pass_(1e8)
    place.begin()
    place.work()
    assert place.keys() == [1]


def test_a_damaged_head_is_removed(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    path = place.put(1)
    data = bytearray(path.read_bytes())
    data[50] ^= 1
    path.write_bytes(data)
    place.work()
    assert place.files() == 0
    assert place.stats().files == 0
    assert f"a damaged file of the cache is removed: {path}" in caplog.text


def test_a_file_that_is_gone_before_it_is_read_is_forgotten(place: Place) -> None:
    place.put(1).unlink()
    place.work()
    assert place.stats().files == 0


def test_a_file_that_was_damaged_and_is_past_its_time_is_removed(place: Place) -> None:
    path = place.put(1, keep_s=10.0)
    place.work()
    path.write_bytes(b"nothing")
    place.pass_(10 + LATE_S)
    place.work()
    assert place.files() == 0


def test_a_file_that_cannot_be_read_is_kept_in_the_books(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(path: str) -> None:
        raise OSError(5, "Input/output error", path)

    monkeypatch.setattr(module, "read_head_and_size", fail)
    place.put(1)
    place.work()
    assert caplog.text.count("cannot be read") == 1
    assert (place.stats().files, place.stats().unread) == (1, 0)


def test_a_file_that_cannot_be_removed_holds_nothing_up(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(path: str) -> bool:
        raise PermissionError(13, "Permission denied", path)

    place.put(1, keep_s=10.0)
    place.work()
    place.pass_(10 + LATE_S)
    monkeypatch.setattr(module, "unlink", fail)
    place.work()
    assert "cannot be removed: [Errno 13]" in caplog.text
    assert place.stats().files == 0


@pytest.mark.parametrize("how", ["removed", "damaged", "replaced"])
def test_a_catalogue_that_is_lost_while_it_is_used_is_made_again(
    place: Place, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    for number in range(300):
        place.put(number)
    place.work()
    index = place.folder / INDEX
    if how == "removed":
        index.unlink()
    elif how == "replaced":
        index.rename(place.folder / "aside")
        index.write_bytes(b"something else" * 100)
    else:
        # The pages in use are those of the write-ahead log, so they go into the file first.
        database = sqlite3.connect(index)
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.close()
        size = index.stat().st_size
        with index.open("r+b") as file:
            file.seek(4096)
            file.write(os.urandom(size - 4096))
        place.upkeep.close()
    place.put(300)
    place.work()
    assert place.stats()[:4] == (301, place.stats().bytes, 301 * BLOCK_BYTES, 0)
    assert "it is made again" in caplog.text
    assert place.work() == IDLE_S
    assert caplog.text.count("it is made again") == 1


def test_a_catalogue_that_is_held_is_waited_for(
    place: Place, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.cache.index._BUSY_S", 0.01)
    place.work()
    holder = sqlite3.connect(place.folder / INDEX, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    place.put(1)
    assert place.work() == TROUBLED_S
    assert place.upkeep.step() == TROUBLED_S
    assert caplog.text.count("cannot be kept in order: database is locked") == 1
    holder.execute("ROLLBACK")
    holder.close()
    place.work()
    assert place.keys() == [1]


def test_a_folder_that_was_removed_is_waited_for(place: Place, tmp_path: Path) -> None:
    place.work()
    place.upkeep.close()
    place.folder.rename(tmp_path.parent / f"{tmp_path.name}-aside")
    assert place.work() == TROUBLED_S
    tmp_path.mkdir()
    assert place.work() == IDLE_S


def test_files_that_were_never_finished_are_removed(place: Place) -> None:
    folder = place.folder / "tmp"
    folder.mkdir()
    (folder / "folder").mkdir()
    for file, age_s in [("old", LEFTOVER_S + 1), ("held", LEFTOVER_S + 1), ("young", 60)]:
        (folder / file).write_bytes(b"x")
        os.utime(folder / file, (place.wall - age_s, place.wall - age_s))
    with (folder / "held").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        place.work()
        assert {path.name for path in folder.iterdir()} == {"held", "young", "folder"}
    place.pass_(LEFTOVER_S)
    place.work()
    assert {path.name for path in folder.iterdir()} == {"folder"}
    place.pass_(SWEEP_EVERY_S)
    place.work()


def test_uses_are_counted(place: Place) -> None:
    place.put(1)
    for _ in range(3):
        place.journal.touch(name_of(KEY % 1, b""))
    place.pass_(60)
    place.journal.flush()
    place.work()
    assert [(item.hits, item.used_at) for item in place.items()] == [(3, 1_000_060)]


def test_a_keeper_that_starts_on_a_catalogue_of_many_goes_on_with_it(place: Place) -> None:
    for number in range(20):
        place.put(number)
    place.journal.touch(name_of(KEY % 3, b""))
    place.pass_(60)
    place.journal.flush()
    place.work()
    place.upkeep.close()
    place.begin()
    place.work()
    assert place.keys() == sorted(range(20), key=str)
    assert place.stats().hits == 1
