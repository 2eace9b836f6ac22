"""The journal's way into the catalogue: each record once, whoever is killed in between."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.cache import folding as module
from proxy.cache.folding import Folding
from proxy.cache.index import Described, Index
from proxy.cache.journal import (
    JOURNAL,
    OLD_JOURNAL,
    RECORD_BYTES,
    Journal,
    Kind,
    Record,
    decode,
    encode,
)


def name(number: int) -> bytes:
    return number.to_bytes(16, "big")


class Place:
    """A folder with a catalogue, and a set of the files that there are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = Index(folder)
        self.files: set[bytes] = set()
        self.told: dict[Record, Described] = {}
        self.lost = 0
        self.journal = Journal(folder)
        self.begin()

    def begin(self) -> None:
        """Begin as a keeper does at its start."""
        self.folding = Folding(
            self.folder, self.index, self.files.__contains__, self._hear_lost, self.told.get
        )

    def _hear_lost(self) -> None:
        self.lost += 1

    def fold(self, now: float = 100.0) -> int:
        """Fold all there is; return the number of steps."""
        steps = 1
        while self.folding.step(now):
            steps += 1
        return steps

    def put(self, *numbers: int) -> None:
        for number in numbers:
            self.files.add(name(number))
            self.journal.put(name(number), 100, 5000)
        self.journal.flush()

    def names(self) -> list[int]:
        return sorted(int.from_bytes(row.name, "big") for row in self.index.new(10**6))

    def sizes(self) -> dict[str, int]:
        return {path.name: path.stat().st_size for path in self.folder.glob("journal*")}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.journal.close()
    made.index.close()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let journals be rotated after four records."""
    monkeypatch.setattr(module, "ROTATE_BYTES", 4 * RECORD_BYTES)


def test_without_a_journal_there_is_nothing_to_do(place: Place) -> None:
    assert place.fold() == 1


def test_each_record_is_folded_once(place: Place) -> None:
    place.put(1, 2)
    assert place.fold() == 2
    place.put(3)
    place.fold()
    assert place.names() == [1, 2, 3]


def test_a_keeper_that_starts_again_goes_on_where_the_last_one_was(place: Place) -> None:
    place.put(1, 2)
    place.fold()
    place.index.remove([row.id for row in place.index.named([name(1)])])
    place.put(3)
    place.begin()
    place.fold()
    assert place.names() == [2, 3]


def test_what_is_told_of_a_file_need_not_be_read_in_it(place: Place) -> None:
    place.journal.put(name(1), 100, 5000, b"head")
    place.journal.put(name(2), 100, 5000)
    place.journal.flush()
    (told, _), _ = decode((place.folder / JOURNAL).read_bytes())
    assert told.head == b"head"
    place.told[told] = Described(100, 5000, "http://h/a", "", 200, "text/plain", 70, ("tag",))
    place.fold()
    assert place.names() == [2]
    assert [row.name for row in place.index.of_url("http://h/a")] == [name(1)]
    assert [row.name for row in place.index.tagged("tag", 0, 9)] == [name(1)]


def test_much_is_folded_in_steps(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STEP_BYTES", 2 * RECORD_BYTES)
    place.put(*range(5))
    assert place.fold() == 4
    assert place.names() == [0, 1, 2, 3, 4]


def test_a_file_that_was_dropped_is_forgotten(place: Place) -> None:
    place.put(1, 2)
    place.files.discard(name(1))
    place.journal.drop(name(1))
    place.journal.flush()
    place.fold()
    assert place.names() == [2]


def test_a_file_that_was_dropped_and_put_again_is_kept(place: Place) -> None:
    place.put(1)
    place.journal.drop(name(1))
    place.journal.flush()
    place.fold()
    assert place.names() == [1]


def test_lost_records_are_told(place: Place) -> None:
    (place.folder / JOURNAL).write_bytes(encode(*Record(Kind.LOST, name(0), 0, 0, 0)))
    place.fold()
    assert place.lost == 1


def test_a_torn_tail_is_read_when_it_is_whole(place: Place) -> None:
    place.put(1)
    record = encode(*Record(Kind.PUT, name(2), 1, 1, 1))
    with (place.folder / JOURNAL).open("ab", buffering=0) as file:
        file.write(record[:17])
        place.fold()
        assert place.names() == [1]
        file.write(record[17:])
    place.fold()
    assert place.names() == [1, 2]


@pytest.mark.usefixtures("small")
def test_a_journal_that_has_grown_is_followed_by_a_new_one(place: Place) -> None:
    place.put(1, 2, 3, 4)
    place.fold()
    assert place.sizes() == {OLD_JOURNAL: 4 * RECORD_BYTES}
    place.put(5)
    place.fold()
    assert place.sizes() == {OLD_JOURNAL: 4 * RECORD_BYTES, JOURNAL: RECORD_BYTES}
    assert place.names() == [1, 2, 3, 4, 5]


@pytest.mark.usefixtures("small")
def test_what_a_worker_writes_to_the_old_file_is_not_lost(place: Place) -> None:
    place.put(1, 2, 3, 4)
    with (place.folder / JOURNAL).open("ab") as late:
        place.fold()
        late.write(encode(*Record(Kind.PUT, name(9), 1, 1, 1)))
    place.fold()
    assert place.names() == [1, 2, 3, 4, 9]


@pytest.mark.usefixtures("small")
def test_journals_do_not_pile_up(place: Place) -> None:
    for round_ in range(5):
        place.put(*range(round_ * 4, round_ * 4 + 4))
        place.fold(100.0 + round_ * module.ROTATE_EVERY_S)
    assert place.sizes() == {OLD_JOURNAL: 4 * RECORD_BYTES}
    assert place.names() == list(range(20))


@pytest.mark.usefixtures("small")
def test_two_rotations_are_some_seconds_apart(place: Place) -> None:
    place.put(1, 2, 3, 4)
    place.fold(100.0)
    place.put(5, 6, 7, 8)
    place.fold(100.0 + module.ROTATE_EVERY_S / 2)
    assert JOURNAL in place.sizes()
    place.fold(100.0 + module.ROTATE_EVERY_S)
    assert place.sizes() == {OLD_JOURNAL: 4 * RECORD_BYTES}


def test_another_file_with_a_known_number_is_read_from_its_beginning(place: Place) -> None:
    place.put(1, 2)
    place.fold()
    record = encode(*Record(Kind.PUT, name(3), 1, 1, 1))
    (place.folder / JOURNAL).write_bytes(record)
    place.fold()
    assert place.names() == [1, 2, 3]


def test_a_link_in_the_place_of_the_journal_is_refused(place: Place) -> None:
    (place.folder / JOURNAL).symlink_to(place.folder / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"):
        place.fold()
