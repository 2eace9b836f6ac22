"""What a purge names gives its disk back."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.cache import purging as module
from proxy.cache.codec import encode_marker
from proxy.cache.disk_folder import name_of
from proxy.cache.index import INDEX, Index
from proxy.cache.purges import PURGES, Kind, Purges, Verdict
from proxy.cache.store import Marker
from proxy.cache.upkeep import IDLE_S, TROUBLED_S
from tests.cache.keeping import Place

KEYS = {
    1: b"http://h/a",
    2: b"http://h/a cookie:lang=de",
    3: b"http://h/a/b?x=*",
    4: b"http://h/b.css",
    5: b"http://h/b.css cookie:lang=de",
    6: b"http://h/abc",
}
TAGS = {1: (b"red",), 6: (b"red", b"blue")}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.upkeep.close()
    made.journal.close()


@pytest.fixture
def purges(tmp_path: Path) -> Iterator[Purges]:
    opened = Purges(tmp_path)
    yield opened
    opened.close()


def fill(place: Place, purges: Purges) -> None:
    for number, key in KEYS.items():
        place.put(number, key=key, tags=TAGS.get(number, ()), purge_seq=purges.current())


def left(place: Place) -> set[int]:
    of_key = {key.decode(): number for number, key in KEYS.items()}
    found = {of_key[item.key] for item in place.items()}
    assert place.files() == len(found)
    return found


@pytest.mark.parametrize(
    ("kind", "argument", "purged"),
    [
        (Kind.URL, b"http://h/a", {1, 2}),
        (Kind.URL, b"http://h/none", set()),
        (Kind.PREFIX, b"http://h/a", {1, 2, 3, 6}),
        (Kind.PREFIX, b"http://h/a/b?x=*", {3}),
        (Kind.PREFIX, b"http://h/*", set()),
        (Kind.PATTERN, b"*.css", {4, 5}),
        (Kind.PATTERN, b"http://h/a?b", set()),
        (Kind.PATTERN, b"http://h/*?x=*", {3}),
        (Kind.TAG, b"red", {1, 6}),
        (Kind.TAG, b"re", set()),
        (Kind.ALL, b"", {1, 2, 3, 4, 5, 6}),
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_files_are_removed_whether_the_catalogue_knew_them_or_not(
    place: Place, purges: Purges, kind: Kind, argument: bytes, purged: set[int], known: bool
) -> None:
    place.work()
    fill(place, purges)
    if known:
        place.work()
    purges.add(kind, Verdict.HARD, argument)
    place.work()
    assert left(place) == set(KEYS) - purged


@pytest.mark.parametrize("mode", [Verdict.SOFT, Verdict.INVALID])
def test_what_is_only_stale_stays(place: Place, purges: Purges, mode: Verdict) -> None:
    fill(place, purges)
    place.work()
    purges.add(Kind.ALL, mode)
    place.work()
    assert left(place) == set(KEYS)


def test_what_was_stored_after_a_purge_stays(place: Place, purges: Purges) -> None:
    fill(place, purges)
    place.work()
    purges.add(Kind.PREFIX, Verdict.HARD, b"http://h/a")
    place.put(1, key=KEYS[1], purge_seq=purges.current())
    place.work()
    assert left(place) == {1, 4, 5}


def test_purges_while_nobody_kept_the_cache_are_made_up_for(place: Place, purges: Purges) -> None:
    fill(place, purges)
    place.work()
    place.upkeep.close()
    purges.add(Kind.TAG, Verdict.HARD, b"blue")
    place.begin()
    place.work()
    assert left(place) == set(KEYS) - {6}


def test_many_purges_and_many_rows_are_done_in_pages(
    place: Place, purges: Purges, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAGE_ROWS", 1)
    monkeypatch.setattr(module, "_WINDOW_ROWS", 2)
    fill(place, purges)
    place.work()
    for kind, argument in [
        (Kind.TAG, b"red"), (Kind.URL, b"http://h/a"), (Kind.PREFIX, b"http://h/b")
    ]:  # fmt: skip
        purges.add(kind, Verdict.HARD, argument)
        purges.invalidate(b"http://h/other")
    place.work()
    assert left(place) == {3}


def test_a_new_catalogue_looks_at_each_file_once(place: Place, purges: Purges) -> None:
    fill(place, purges)
    purges.add(Kind.URL, Verdict.HARD, b"http://h/a")
    place.work()
    assert left(place) == {3, 4, 5, 6}
    (place.folder / INDEX).unlink()
    place.work()
    assert left(place) == {3, 4, 5, 6}


def test_a_file_of_purges_that_was_removed_is_made_again(place: Place, purges: Purges) -> None:
    fill(place, purges)
    place.work()
    (place.folder / PURGES).unlink()
    place.work()
    purges.check()
    purges.add(Kind.URL, Verdict.HARD, b"http://h/b.css")
    place.work()
    assert left(place) == {1, 2, 3, 6}


def test_purges_that_cannot_be_read_are_waited_for(
    place: Place, purges: Purges, caplog: pytest.LogCaptureFixture
) -> None:
    place.work()
    path = place.folder / PURGES
    path.unlink()
    path.mkdir()
    assert place.work() == TROUBLED_S
    assert place.upkeep.step() == TROUBLED_S
    path.rmdir()
    assert place.work() == IDLE_S
    fill(place, purges)
    place.work()
    assert left(place) == set(KEYS)


def test_a_catalogue_that_fails_in_a_search_is_searched_again(
    place: Place, purges: Purges, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(place, purges)
    place.work()
    real = Index.globbed
    failures = iter([OSError(5, "Input/output error")])

    def globbed(*arguments: object) -> object:
        for failure in failures:
            raise failure
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Index, "globbed", globbed)
    purges.add(Kind.ALL, Verdict.HARD)
    assert place.work() == TROUBLED_S
    assert place.work() == IDLE_S
    assert left(place) == set()


def test_the_marker_of_a_key_stays(place: Place, purges: Purges) -> None:
    name = name_of(KEYS[1], b"")
    size = place.store(name, encode_marker(Marker(KEYS[1], ((b"accept",),))))
    place.journal.put(name, size, place.wall + 100)
    place.journal.flush()
    place.work()
    purges.add(Kind.ALL, Verdict.HARD)
    place.work()
    assert (place.stats().files, place.files()) == (1, 1)


def test_a_file_that_is_gone_already_is_no_failure(place: Place, purges: Purges) -> None:
    path = place.put(1, key=KEYS[1])
    place.work()
    path.unlink()
    purges.add(Kind.ALL, Verdict.HARD)
    assert place.work() == IDLE_S
