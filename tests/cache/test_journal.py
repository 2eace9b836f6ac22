"""The journal: whole records from any bytes, and a writer that waits for nothing."""

import errno
import logging
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache import journal as module
from proxy.cache.journal import (
    JOURNAL,
    NAME_BYTES,
    RECORD_BYTES,
    TOUCH_EVERY_S,
    Journal,
    Kind,
    Record,
    decode,
    encode,
)

U32 = st.integers(0, 2**32 - 1)
RECORDS = st.builds(
    Record,
    st.sampled_from(Kind),
    st.binary(min_size=NAME_BYTES, max_size=NAME_BYTES),
    st.integers(0, 2**64 - 1),
    U32,
    U32,
    st.binary(max_size=60),
)


def encoded(records: Sequence[Record]) -> bytes:
    return b"".join([encode(*record) for record in records])


def name(number: int) -> bytes:
    return number.to_bytes(NAME_BYTES, "big")


class Times:
    """Two clocks that stand still."""

    def __init__(self) -> None:
        self.wall = 1000.0
        self.monotonic = 50.0


@pytest.fixture
def times() -> Times:
    return Times()


@pytest.fixture
def journal(tmp_path: Path, times: Times) -> Iterator[Journal]:
    made = Journal(tmp_path, wall=lambda: times.wall, monotonic=lambda: times.monotonic)
    yield made
    made.close()


def written(folder: Path, file: str = JOURNAL) -> list[Record]:
    records, done = decode((folder / file).read_bytes())
    assert done == (folder / file).stat().st_size
    return records


@given(st.lists(RECORDS, max_size=20), st.binary(max_size=RECORD_BYTES - 1))
def test_what_was_encoded_is_decoded_and_a_torn_tail_is_left(
    records: list[Record], tail: bytes
) -> None:
    data = encoded(records)
    assert decode(data + tail) == (records, len(data))


@given(st.lists(RECORDS, max_size=8), st.binary(max_size=100), st.lists(RECORDS, max_size=8))
def test_records_after_any_damage_are_found(
    before: list[Record], damage: bytes, after: list[Record]
) -> None:
    data = encoded(before) + damage + encoded(after)
    records, done = decode(data)
    assert records == before + after
    assert len(data) - done < RECORD_BYTES


@given(st.lists(RECORDS, max_size=5), st.integers(0, 300))
def test_records_are_the_same_however_they_arrive(records: list[Record], cut: int) -> None:
    data = encoded(records)
    first, done = decode(data[:cut])
    second, _ = decode(data[done:])
    assert first + second == records


def test_a_flipped_bit_anywhere_loses_that_record_and_no_other() -> None:
    one, two = Record(Kind.PUT, name(1), 5, 6, 7), Record(Kind.DROP, name(2), 0, 0, 8)
    for position in range(RECORD_BYTES):
        data = bytearray(encoded([one, two]))
        data[position] ^= 0x10
        assert decode(bytes(data))[0] == [two]


def test_a_flipped_bit_in_a_head_loses_that_head_and_no_more() -> None:
    one = Record(Kind.PUT, name(1), 5, 6, 7, b"a head")
    two = Record(Kind.DROP, name(2), 0, 0, 8)
    for position in range(len(one.head)):
        data = bytearray(encoded([one, two]))
        data[RECORD_BYTES + position] ^= 0x10
        assert decode(bytes(data))[0] == [one._replace(head=b""), two]


def test_a_record_without_the_end_of_its_head_is_left_for_the_next_time() -> None:
    one, two = Record(Kind.DROP, name(2), 0, 0, 8), Record(Kind.PUT, name(1), 5, 6, 7, b"a head")
    data = encoded([one, two])
    for missing in range(1, len(two.head) + 1):
        assert decode(data[:-missing]) == ([one], RECORD_BYTES)


def test_heads_that_are_long_or_too_many_stay_in_their_files(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_HEAD_BYTES", 3000)
    for number, size in enumerate((2048, 2049, 2000, 10)):
        journal.put(name(number), 1, 1, bytes(size))
    journal.flush()
    assert [len(record.head) for record in written(tmp_path)] == [2048, 0, 2000, 0]


def test_a_kind_that_is_not_known_is_passed_over() -> None:
    strange = Record(9, name(1), 0, 0, 0)  # type: ignore[arg-type]
    known = Record(Kind.LOST, name(0), 0, 0, 0)
    assert decode(encoded([strange, known])) == ([known], 2 * RECORD_BYTES)


def test_puts_and_drops_are_written_in_order_at_the_next_flush(
    journal: Journal, tmp_path: Path
) -> None:
    journal.put(name(1), 4096, 2000.5)
    journal.drop(name(1))
    assert not (tmp_path / JOURNAL).exists()
    journal.flush()
    assert written(tmp_path) == [
        Record(Kind.PUT, name(1), 4096, 2000, 1000),
        Record(Kind.DROP, name(1), 0, 0, 1000),
    ]


@pytest.mark.parametrize(
    ("keep_until", "kept"), [(float("inf"), 2**32 - 1), (2.0**40, 2**32 - 1), (-5.0, 0)]
)
def test_times_that_have_no_room_are_the_nearest_that_have(
    journal: Journal, tmp_path: Path, times: Times, keep_until: float, kept: int
) -> None:
    times.wall = keep_until if keep_until < 1e18 else 2.0**50
    journal.put(name(1), 1, keep_until)
    journal.flush()
    assert [(record.keep_until, record.at) for record in written(tmp_path)] == [(kept, kept)]


def test_uses_are_counted_and_written_every_now_and_then(
    journal: Journal, tmp_path: Path, times: Times
) -> None:
    for _ in range(3):
        journal.touch(name(1))
    journal.touch(name(2))
    journal.flush()
    assert not (tmp_path / JOURNAL).exists()
    times.monotonic += TOUCH_EVERY_S
    journal.flush()
    journal.flush()
    assert written(tmp_path) == [
        Record(Kind.TOUCH, name(1), 3, 0, 1000),
        Record(Kind.TOUCH, name(2), 1, 0, 1000),
    ]


def test_many_uses_are_bounded_and_written_no_earlier(
    journal: Journal, tmp_path: Path, times: Times, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_RECORDS", 4)
    journal.drop(name(9))
    for number in range(6):
        journal.touch(name(number))
    journal.flush()
    assert [record.kind for record in written(tmp_path)] == [Kind.DROP]
    (tmp_path / JOURNAL).unlink()
    journal.drop(name(8))
    times.monotonic += TOUCH_EVERY_S
    journal.flush()
    kinds = [(record.kind, record.name) for record in written(tmp_path)]
    assert kinds == [
        (Kind.DROP, name(8)), *((Kind.TOUCH, name(number)) for number in range(3)),
    ]  # fmt: skip


def test_nothing_happened_writes_nothing(journal: Journal, tmp_path: Path) -> None:
    journal.flush()
    assert list(tmp_path.iterdir()) == []


def test_closing_writes_what_is_left(journal: Journal, tmp_path: Path) -> None:
    journal.touch(name(1))
    journal.put(name(2), 1, 1)
    journal.close()
    assert [record.kind for record in written(tmp_path)] == [Kind.PUT, Kind.TOUCH]


def test_a_renamed_journal_is_followed_by_a_new_one(journal: Journal, tmp_path: Path) -> None:
    journal.drop(name(1))
    journal.flush()
    (tmp_path / JOURNAL).rename(tmp_path / "other")
    journal.drop(name(2))
    journal.flush()
    journal.drop(name(3))
    journal.flush()
    (tmp_path / JOURNAL).rename(tmp_path / "third")
    (tmp_path / JOURNAL).touch()
    journal.drop(name(4))
    journal.flush()
    files = [[record.name for record in written(tmp_path, file)] for file in ("other", "third")]
    assert files == [[name(1)], [name(2), name(3)]]
    assert [record.name for record in written(tmp_path)] == [name(4)]


def test_several_workers_share_one_journal(tmp_path: Path) -> None:
    def work(worker: int) -> None:
        journal = Journal(tmp_path)
        for number in range(200):
            journal.put(name(worker * 1000 + number), number, 1)
            if number % 7 == 0:
                journal.flush()
        journal.close()

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(record.name for record in written(tmp_path)) == [
        name(worker * 1000 + number) for worker in range(4) for number in range(200)
    ]


def test_a_folder_that_is_not_there_is_said_once_and_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "later"
    journal = Journal(folder)
    journal.put(name(1), 1, 1)
    journal.flush()
    journal.flush()
    assert caplog.text.count("cannot be written") == 1
    folder.mkdir()
    journal.flush()
    assert [record.name for record in written(folder)] == [name(1)]
    journal.close()


def test_a_full_disk_tears_a_record_that_is_then_written_again(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    outcomes = iter([RECORD_BYTES + 4 + 7, 7, RECORD_BYTES + 3, 0, 10**6])

    def write(descriptor: int, data: bytes) -> int:
        takes = next(outcomes)
        if takes == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, bytes(data)[:takes])

    monkeypatch.setattr(os, "write", write)
    for number in range(3):
        journal.put(name(number), 1, 1, b"head")
    other = encode(*Record(Kind.DROP, name(9), 0, 0, 0))
    for _ in range(5):
        journal.flush()
        with (tmp_path / JOURNAL).open("ab") as another_worker:
            another_worker.write(other)
    records = written(tmp_path)
    assert [record.head for record in records if record.name == name(0)] == [b"head"]
    # Torn in its head only, and so told twice.
    assert [record.head for record in records if record.name == name(1)] == [b"", b"head"]
    assert [record.head for record in records if record.name == name(2)] == [b"head"]
    assert [record.name for record in records].count(name(9)) == 5


def test_what_has_no_room_is_told_as_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "_MOST_RECORDS", 2)
    caplog.set_level(logging.ERROR)
    folder = tmp_path / "later"
    journal = Journal(folder)
    for number in range(5):
        journal.drop(name(number))
    journal.flush()
    folder.mkdir()
    journal.close()
    assert [(record.kind, record.name) for record in written(folder)] == [
        (Kind.LOST, name(0)), (Kind.DROP, name(0)), (Kind.DROP, name(1)),
    ]  # fmt: skip


def test_a_journal_that_nobody_folds_stops_growing(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FULL_BYTES", 2 * RECORD_BYTES)
    for number in range(5):
        journal.drop(name(number))
        journal.flush()
    assert [record.name for record in written(tmp_path)] == [name(0), name(1)]
    (tmp_path / JOURNAL).unlink()
    journal.flush()
    journal.drop(name(6))
    journal.flush()
    assert [(record.kind, record.name) for record in written(tmp_path)] == [
        (Kind.LOST, name(0)), (Kind.DROP, name(6)),
    ]  # fmt: skip


def test_a_link_in_the_place_of_the_journal_is_not_followed(
    journal: Journal, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    (tmp_path / JOURNAL).symlink_to(target)
    journal.drop(name(1))
    journal.flush()
    assert not target.exists()


def test_a_reader_takes_no_more_at_once_than_it_wants() -> None:
    records = [Record(Kind.PUT, bytes([number]) * 16, 1, 2, 3, b"head") for number in range(5)]
    data = encoded(records)
    first, done = decode(data, 3)
    assert (first, decode(data[done:], 3)) == (records[:3], (records[3:], len(data) - done))
