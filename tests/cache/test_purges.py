"""Purges: seen by every process at once, by the entries that they are about, and never lost."""

import contextlib
import gc
import mmap
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from proxy.cache import purge_file, purges
from proxy.cache.entry import Entry
from proxy.cache.purge_file import FILE_BYTES, MOST_ARGUMENT_BYTES, SLOTS, PurgeFile
from proxy.cache.purges import PURGES, Kind, Purges, Verdict
from proxy.errors import PurgeError, StartError
from proxy.rules.cache_status import hit, stale_s
from tests.cache.making import entry

URL = b"https://a.example/path?q=1"

Open = Callable[[], Purges]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    with contextlib.ExitStack() as stack:

        def another() -> Purges:
            made = Purges(tmp_path)
            stack.callback(made.close)
            return made

        yield another


def known(purges: Purges, key: bytes = URL, tags: tuple[bytes, ...] = ()) -> Entry:
    """Return an entry that was fetched after all purges there are."""
    return entry(key, tags=tags, purge_seq=purges.current())


@pytest.mark.parametrize(
    ("kind", "argument", "hits"),
    [
        (Kind.URL, URL, True),
        (Kind.URL, URL[:-1], False),
        (Kind.URL, URL + b"2", False),
        (Kind.PREFIX, b"https://a.example/pa", True),
        (Kind.PREFIX, b"https://b.example/", False),
        (Kind.PATTERN, b"*/path?q=*", True),
        (Kind.PATTERN, b"https://a.example/path?q=1", True),
        (Kind.PATTERN, b"https://a.example/pathxq=1", False),
        (Kind.PATTERN, b"*/path", False),
        (Kind.PATTERN, b"https://[a].example/path?q=1", False),
        (Kind.PATTERN, b"https://?.example/path*", False),
        (Kind.TAG, b"news", True),
        (Kind.TAG, b"new", False),
        (Kind.ALL, b"", True),
    ],
)
def test_a_purge_meets_what_it_is_about_once(
    opened: Open, kind: Kind, argument: bytes, hits: bool
) -> None:
    here, elsewhere = opened(), opened()
    one = known(here, tags=(b"top", b"news"))
    assert here.verdict(one) is Verdict.NOTHING
    for mode in (Verdict.SOFT, Verdict.INVALID, Verdict.HARD):
        sequence = elsewhere.add(kind, mode, argument)
        assert here.current() == sequence
        assert here.verdict(one) is (mode if hits else Verdict.NOTHING)
        assert here.verdict(one) is Verdict.NOTHING
        assert one.purge_seq == sequence


def test_the_parts_of_a_key_after_its_url_make_no_difference(opened: Open) -> None:
    one = opened()
    kept = known(one, URL + b" cookie:lang=de")
    one.add(Kind.URL, Verdict.HARD, URL)
    assert one.verdict(kept) is Verdict.HARD


def test_the_strictest_of_several_purges_counts(opened: Open) -> None:
    one = opened()
    kept = known(one, tags=(b"t",))
    one.add(Kind.TAG, Verdict.HARD, b"t")
    one.add(Kind.URL, Verdict.SOFT, URL)
    one.add(Kind.ALL, Verdict.SOFT)
    assert one.verdict(kept) is Verdict.HARD


def test_what_was_fetched_after_a_purge_is_not_purged_by_it(opened: Open) -> None:
    one = opened()
    for kind, argument in ((Kind.URL, URL), (Kind.PREFIX, b"h"), (Kind.PATTERN, b"*")):
        one.add(kind, Verdict.HARD, argument)
    one.invalidate(URL)
    fresh = known(one)
    one.add(Kind.URL, Verdict.HARD, b"another")
    assert one.verdict(fresh) is Verdict.NOTHING


def test_a_purge_while_an_answer_is_fetched_applies_to_it(opened: Open) -> None:
    one = opened()
    before = one.current()
    one.add(Kind.URL, Verdict.HARD, URL)
    assert one.verdict(entry(URL, purge_seq=before)) is Verdict.HARD


def test_invalidation_asks_for_validation(opened: Open) -> None:
    here, elsewhere = opened(), opened()
    kept, other = known(here), known(here, b"https://a.example/other")
    elsewhere.invalidate(URL)
    assert here.verdict(kept) is Verdict.INVALID
    assert here.verdict(other) is Verdict.NOTHING
    assert here.verdict(kept) is Verdict.NOTHING


def test_invalidations_without_end_do_not_forget_purges(opened: Open) -> None:
    one = opened()
    kept, other = known(one), known(one, b"https://a.example/other")
    one.add(Kind.URL, Verdict.HARD, URL)
    for number in range(2 * SLOTS):
        one.invalidate(b"https://a.example/%d" % (number % 10))
    assert one.verdict(kept) is Verdict.HARD
    assert one.verdict(other) is Verdict.NOTHING


def test_what_was_not_compared_since_the_ring_came_round_must_be_validated(opened: Open) -> None:
    one = opened()
    old, newer = known(one), known(one)
    for number in range(SLOTS + 1):
        one.add(Kind.URL, Verdict.HARD, b"https://a.example/%d" % number)
        if number == SLOTS // 2:
            assert one.verdict(newer) is Verdict.NOTHING
    assert one.verdict(old) is Verdict.INVALID
    assert one.verdict(newer) is Verdict.NOTHING
    assert one.verdict(old) is Verdict.NOTHING
    assert len(one.records()) == SLOTS


def test_a_process_that_looks_again_after_the_ring_came_round_sees_what_is_left(
    opened: Open,
) -> None:
    idle, busy = opened(), opened()
    idle.verdict(known(idle))
    late = known(idle, b"https://a.example/late")
    for number in range(SLOTS + 100):
        busy.add(Kind.URL, Verdict.HARD, b"https://a.example/%d" % number)
    middle = known(busy)
    busy.add(Kind.URL, Verdict.HARD, URL)
    assert idle.verdict(late) is Verdict.INVALID
    assert idle.verdict(middle) is Verdict.HARD


def test_no_more_is_remembered_than_the_file_holds(
    opened: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = opened()
    monkeypatch.setattr(purges, "SLOTS", 3)
    for number in range(6):
        one.add(Kind.PATTERN, Verdict.HARD, b"*%d" % number)
        one.add(Kind.PREFIX, Verdict.HARD, b"*%d" % number)
    kept = known(one, b"http://a/5")
    one.add(Kind.PATTERN, Verdict.SOFT, b"*5")
    assert one.verdict(kept) is Verdict.SOFT
    assert list(one._patterns) == [b"*3", b"*4", b"*5"]
    assert list(one._compiled) == [b"*3", b"*4", b"*5"]


@pytest.mark.parametrize("length", [1, 222, 223, 444, 1000, MOST_ARGUMENT_BYTES])
def test_long_arguments_take_several_slots(opened: Open, length: int) -> None:
    here, elsewhere = opened(), opened()
    url = (URL * 400)[:length]
    kept = known(here, url)
    elsewhere.add(Kind.URL, Verdict.HARD, url)
    assert here.verdict(kept) is Verdict.HARD
    (record,) = here.records()
    assert (record.kind, record.mode, record.argument) == (Kind.URL, Verdict.HARD, url)
    assert abs(record.at - time.time()) < 60


def test_long_arguments_go_round_the_ring(opened: Open) -> None:
    one = opened()
    urls = [b"https://a.example/%04d/" % number + b"x" * 2000 for number in range(500)]
    for url in urls:
        kept = known(one, url)
        one.add(Kind.URL, Verdict.HARD, url)
        assert one.verdict(kept) is Verdict.HARD
    remembered = [record.argument for record in opened().records()]
    assert remembered == urls[-len(remembered) :]
    assert len(remembered) == SLOTS // 10


def test_what_cannot_be_purged_says_why(opened: Open) -> None:
    one = opened()
    with pytest.raises(PurgeError, match="longer than 8192"):
        one.add(Kind.URL, Verdict.HARD, b"x" * (MOST_ARGUMENT_BYTES + 1))
    with pytest.raises(PurgeError, match="say of what"):
        one.add(Kind.TAG, Verdict.HARD)
    assert one.records() == []


# What is done to an entry.


def test_a_hard_purge_is_the_end_of_an_entry(opened: Open) -> None:
    one = opened()
    kept = known(one)
    one.add(Kind.ALL, Verdict.HARD)
    assert not one.apply(kept, 120.0)


def test_a_soft_purge_makes_stale_and_leaves_grace(opened: Open) -> None:
    one = opened()
    kept = known(one)
    assert one.apply(kept, 120.0)
    assert kept.fresh_until == 160.0
    one.add(Kind.ALL, Verdict.SOFT)
    stale = pytest.approx((120.0, 130.0, 160.0))
    assert one.apply(kept, 120.0)
    assert (kept.fresh_until, kept.swr_until, kept.sie_until) == stale
    assert not kept.no_cache
    one.add(Kind.ALL, Verdict.SOFT)
    assert one.apply(kept, 125.0)
    assert (kept.fresh_until, kept.swr_until, kept.sie_until) == stale


def test_what_a_soft_purge_has_just_made_stale_says_so_to_other_workers(opened: Open) -> None:
    """They know no more of it than its Cache-Status."""
    one = opened()
    kept = known(one)
    one.add(Kind.ALL, Verdict.SOFT)
    assert one.apply(kept, 120.0)
    assert stale_s(hit(kept.fresh_until - 120.0)) > 0


def test_an_invalidated_entry_is_not_served_even_stale(opened: Open) -> None:
    one = opened()
    kept = known(one)
    one.invalidate(URL)
    assert one.apply(kept, 120.0)
    assert (kept.fresh_until, kept.swr_until, kept.sie_until) == (120.0, 120.0, 120.0)
    assert kept.no_cache


# The file.


def test_purges_outlive_their_processes(tmp_path: Path) -> None:
    first = Purges(tmp_path)
    kept = known(first)
    first.add(Kind.URL, Verdict.HARD, URL)
    first.close()
    second = Purges(tmp_path)
    assert second.verdict(kept) is Verdict.HARD
    assert second.verdict(known(second)) is Verdict.NOTHING
    second.close()


@pytest.mark.parametrize("size", [1, 100, 4096, 5000, FILE_BYTES - 1])
def test_a_truncated_file_makes_all_entries_be_validated(
    tmp_path: Path, size: int, caplog: pytest.LogCaptureFixture
) -> None:
    first = Purges(tmp_path)
    kept = known(first)
    first.close()
    os.truncate(tmp_path / PURGES, size)
    second = Purges(tmp_path)
    # A header that is whole still tells the sequence, and the rest reads as zeros.
    assert second.verdict(kept) in {Verdict.INVALID, Verdict.NOTHING}
    second.close()


def test_no_flipped_bit_lets_a_purged_entry_through(tmp_path: Path) -> None:
    first = Purges(tmp_path)
    kept = known(first)
    sequence = kept.purge_seq
    for _ in range(3):
        first.add(Kind.URL, Verdict.HARD, URL)
    first.close()
    path = tmp_path / PURGES
    whole = path.read_bytes()[:8192]
    used = [*range(56), *range(4096, 4096 + 3 * 256)]
    for at in used:
        damaged = bytearray(whole)
        damaged[at] ^= 1 << random.randrange(8)
        with path.open("r+b") as file:
            file.write(damaged)
        one = Purges(tmp_path)
        kept.purge_seq = sequence
        assert one.verdict(kept) in {Verdict.INVALID, Verdict.HARD}, at
        one.close()


def test_damage_under_way_makes_all_entries_be_validated(opened: Open) -> None:
    here, elsewhere = opened(), opened()
    kept, other = known(here), known(here, b"https://a.example/other")
    here.verdict(kept)
    elsewhere.add(Kind.URL, Verdict.HARD, URL)
    elsewhere._file._ring[100] ^= 1
    assert here.verdict(kept) is Verdict.INVALID
    assert elsewhere.verdict(other) is Verdict.INVALID
    assert here.verdict(known(here)) is Verdict.NOTHING
    again = known(elsewhere)
    elsewhere.add(Kind.URL, Verdict.HARD, URL)
    assert here.verdict(again) is Verdict.HARD


def test_a_file_that_was_removed_is_made_again_and_all_is_validated(
    opened: Open, tmp_path: Path
) -> None:
    one = opened()
    kept = known(one)
    one.check()
    assert one.verdict(kept) is Verdict.NOTHING
    (tmp_path / PURGES).unlink()
    one.check()
    assert one.verdict(kept) is Verdict.INVALID
    elsewhere = opened()
    fresh = known(one)
    elsewhere.add(Kind.ALL, Verdict.HARD)
    assert one.verdict(fresh) is Verdict.HARD


def test_a_file_that_cannot_be_made_again_goes_on_as_it_is(
    opened: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one = opened()
    kept = known(one)
    path = tmp_path / PURGES
    path.unlink()
    path.mkdir()
    one.check()
    assert one.verdict(kept) is Verdict.NOTHING
    assert "cannot keep its purges" in caplog.text


def remove(folder: Path, how: str) -> None:
    """Take the file of purges from its place: all with it, or only its name."""
    if how == "unlinked":
        (folder / PURGES).unlink()
    else:
        (folder / PURGES).rename(folder / "aside")


@pytest.mark.parametrize("how", ["unlinked", "renamed"])
@pytest.mark.parametrize("kind", [Kind.URL, Kind.ALL, None])
def test_no_purge_is_lost_on_processes_that_have_not_seen_that_the_file_was_removed(
    opened: Open, tmp_path: Path, how: str, kind: Kind | None
) -> None:
    """One has seen it, one purges, one only looks; a second has not passed."""
    first, purger, reader = opened(), opened(), opened()
    before = known(reader)
    remove(tmp_path, how)
    first.check()
    assert reader.verdict(before) is Verdict.INVALID
    since = [known(each) for each in (first, reader)]
    if kind is None:
        purger.invalidate(URL)
    else:
        purger.add(kind, Verdict.HARD, URL if kind is Kind.URL else b"")
    expected = Verdict.INVALID if kind is None else Verdict.HARD
    for one in since:
        assert first.verdict(entry(URL, purge_seq=one.purge_seq)) is expected
        assert reader.verdict(one) is expected


def test_who_purges_finds_that_the_file_was_removed(opened: Open, tmp_path: Path) -> None:
    purger, reader = opened(), opened()
    kept = known(reader)
    (tmp_path / PURGES).unlink()
    purger.add(Kind.URL, Verdict.HARD, URL + b"&other")
    assert reader.verdict(kept) is Verdict.INVALID
    assert reader.verdict(known(opened())) is Verdict.NOTHING


def test_a_purge_is_refused_where_only_this_process_would_see_it(
    opened: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, purger = opened(), opened()
    kept = known(purger)
    path = tmp_path / PURGES
    path.unlink()
    first.check()
    path.unlink()
    path.mkdir()
    with pytest.raises(PurgeError, match="was removed, and cannot be made again"):
        purger.add(Kind.ALL, Verdict.HARD)
    with pytest.raises(PurgeError, match="was removed, and cannot be made again"):
        purger.invalidate(URL)
    for _ in range(3):
        assert purger.verdict(kept) is Verdict.INVALID
    assert caplog.text.count("was removed: the cache cannot keep its purges") == 1
    path.rmdir()
    purger.add(Kind.ALL, Verdict.SOFT)
    assert purger.verdict(known(purger)) is Verdict.NOTHING


def test_a_file_that_is_put_back_after_another_was_in_its_place_brings_nothing_back(
    opened: Open, tmp_path: Path
) -> None:
    one, other = opened(), opened()
    kept = known(one)
    path = tmp_path / PURGES
    path.rename(tmp_path / "aside")
    one.check()
    one.add(Kind.ALL, Verdict.HARD)
    (tmp_path / "aside").rename(path)
    assert one.verdict(entry(URL, purge_seq=kept.purge_seq)) is not Verdict.NOTHING
    one.check()
    other.check()
    assert one.verdict(entry(URL, purge_seq=kept.purge_seq)) is Verdict.INVALID
    assert other.verdict(kept) is Verdict.INVALID
    assert other.verdict(known(one)) is Verdict.NOTHING


def test_a_file_that_a_lock_keeps_from_being_retired_is_left(
    opened: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = opened(), opened()
    (tmp_path / PURGES).rename(tmp_path / "aside")
    with other._file.locked():
        one.check()
    assert "is locked" in caplog.text
    assert not other._file.is_retired
    assert one.add(Kind.ALL, Verdict.HARD)


def test_a_file_that_was_cut_short_is_left_when_another_takes_its_place(
    opened: Open, tmp_path: Path
) -> None:
    one = opened()
    path = tmp_path / PURGES
    os.truncate(path, 0)
    path.unlink()
    one.check()
    assert one.verdict(known(one)) is Verdict.NOTHING


def test_a_folder_that_cannot_be_used_is_said_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartError, match=r"cannot keep its purges in .*see \[cache\]"):
        Purges(tmp_path / "file" / "cache")


def test_a_lock_that_is_kept_is_not_waited_for_without_end(
    opened: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(purge_file, "_LOCK_TRIES", 2)
    one, other = opened(), opened()
    kept = known(one)
    one.add(Kind.URL, Verdict.HARD, b"https://a.example/other")
    with other._file.locked():
        with pytest.raises(PurgeError, match="does not go on"):
            one.add(Kind.ALL, Verdict.HARD)
        assert one.verdict(kept) is Verdict.INVALID
    assert "cannot be read" in caplog.text
    assert one.verdict(kept) is Verdict.NOTHING


def test_a_record_that_was_whole_when_its_writer_died_counts(tmp_path: Path) -> None:
    first = Purges(tmp_path)
    kept = known(first, b"x" * 500)
    words = first._file.words[:8].tolist()
    first.add(Kind.URL, Verdict.HARD, b"x" * 500)
    for at, word in enumerate(words):
        first._file.words[at] = word
    first.close()
    second = Purges(tmp_path)
    assert second.verdict(kept) is Verdict.HARD
    second.close()


def test_a_record_that_was_not_whole_when_its_writer_died_does_not_count(tmp_path: Path) -> None:
    first = Purges(tmp_path)
    kept = known(first, b"x" * 500)
    words = first._file.words[:8].tolist()
    first.add(Kind.URL, Verdict.HARD, b"x" * 500)
    for at, word in enumerate(words):
        first._file.words[at] = word
    first._file._ring[2 * 256 + 50] ^= 1
    first.close()
    second = Purges(tmp_path)
    assert second.verdict(kept) is Verdict.NOTHING
    second.add(Kind.URL, Verdict.SOFT, b"x" * 500)
    assert second.verdict(kept) is Verdict.SOFT
    second.close()


def _add_many(folder: Path, name: bytes, count: int) -> None:
    one = Purges(folder)
    for number in range(count):
        one.add(Kind.URL, Verdict.HARD, b"%s/%d" % (name, number))
    one.close()


def test_processes_add_at_the_same_time(tmp_path: Path) -> None:
    one = Purges(tmp_path)
    start = one.current()
    context = multiprocessing.get_context("spawn")
    children = [
        context.Process(target=_add_many, args=(tmp_path, name, 300)) for name in (b"a", b"b")
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(30)
        assert child.exitcode == 0
    assert one.current() == start + 600
    seen = {record.argument for record in one.records()}
    assert seen == {b"%s/%d" % (name, number) for name in (b"a", b"b") for number in range(300)}
    one.close()


PURGER = """
import sys
from pathlib import Path
from proxy.cache.purges import Kind, Purges, Verdict
one = Purges(Path(sys.argv[1]))
number = 0
while True:
    number += 1
    one.add(Kind.URL, Verdict.HARD, b"https://a.example/%d/" % number + b"x" * 600)
    print(number, flush=True)
"""


def test_killing_a_purger_at_any_moment_loses_no_purge_that_it_reported(tmp_path: Path) -> None:
    watching = Purges(tmp_path)
    for _ in range(8):
        start = watching.current()
        child = subprocess.Popen(
            [sys.executable, "-c", PURGER, str(tmp_path)], stdout=subprocess.PIPE
        )
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(random.uniform(0, 0.01))
        child.send_signal(signal.SIGKILL)
        last = [1, *map(int, child.stdout.read().split())][-1]
        child.wait()
        child.stdout.close()
        for one in (watching, Purges(tmp_path)):
            for number in (1, last):
                url = b"https://a.example/%d/" % number + b"x" * 600
                kept = entry(url, purge_seq=start)
                assert one.verdict(kept) in {Verdict.HARD, Verdict.INVALID}
            assert one.verdict(known(one)) is Verdict.NOTHING
            if one is not watching:
                one.close()
    watching.close()


def test_a_file_that_cannot_be_mapped_is_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_args: object) -> None:
        raise OSError("refused")

    monkeypatch.setattr(mmap, "mmap", refuse)
    gc.collect()  # what other tests have left open is not counted
    before = len(os.listdir("/dev/fd"))
    with pytest.raises(OSError, match="refused"):
        PurgeFile(tmp_path / "file")
    assert len(os.listdir("/dev/fd")) == before
