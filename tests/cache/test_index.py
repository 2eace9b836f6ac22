"""The catalogue: what is entered is found again, totals are exact, damage is told."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.cache.index import (
    BLOCK_BYTES,
    FOREVER,
    INDEX,
    Described,
    Found,
    Index,
    IndexBusyError,
    IndexDamagedError,
    Totals,
    discard,
)
from proxy.cache.journal import NAME_BYTES, Kind, Record

Told = tuple[Record, Described | None]


def name(number: int) -> bytes:
    return number.to_bytes(NAME_BYTES, "big")


def put(number: int, size: int = 100, at: int = 1000, keep_until: int = 5000) -> Told:
    return Record(Kind.PUT, name(number), size, keep_until, at), None


def touch(number: int, hits: int = 1, at: int = 1000) -> Told:
    return Record(Kind.TOUCH, name(number), hits, 0, at), None


def head(key: str = "http://h/", tags: tuple[str, ...] = ()) -> Described:
    return Described(300, 6000, key, "", 200, "text/plain", 2000, tags)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    opened = Index(tmp_path)
    yield opened
    opened.close()


def names(rows: object) -> list[int]:
    return [int.from_bytes(row.name, "big") for row in rows]  # type: ignore[attr-defined]


def test_what_the_journal_says_is_entered_with_the_place_it_was_read_to(index: Index) -> None:
    index.fold([put(1, 100), put(2, BLOCK_BYTES + 1)], "journal:7", 80)
    assert index.totals() == Totals(2, BLOCK_BYTES + 101, 3 * BLOCK_BYTES)
    assert index.mark("journal:7") == 80
    assert names(index.new(10)) == [1, 2]


def test_a_second_put_of_a_name_replaces_the_first(index: Index) -> None:
    index.fold([put(1, 100), touch(1, 3), put(1, 9000, at=1500, keep_until=8000)], "j", 0)
    assert index.totals() == Totals(1, 9000, 3 * BLOCK_BYTES)
    assert names(index.past(7999, 9)) == []
    assert names(index.past(8256, 9)) == [1]


def test_the_least_recently_used_comes_first(index: Index) -> None:
    index.fold([put(1, at=100), put(2, at=200), put(3, at=300), touch(1, at=400)], "j", 0)
    assert names(index.least_used(9)) == [2, 3, 1]
    index.fold([touch(2, at=350), touch(1, at=50), touch(99)], "j", 0)
    assert names(index.least_used(2)) == [3, 2]


def test_uses_within_a_minute_count_and_change_no_order(index: Index) -> None:
    index.fold([put(1, at=100), put(2, at=101), touch(1, at=159, hits=4)], "j", 0)
    assert names(index.least_used(9)) == [1, 2]
    (hits,) = index._database.execute("SELECT hits FROM entry WHERE id = 1").fetchone()
    assert hits == 4


def test_a_listed_file_is_entered_unless_it_is_known(index: Index) -> None:
    index.fold([put(1, 100)], "j", 0)
    index.add([Found(name(1), 5, 5), Found(name(2), 200, 900)])
    assert index.totals().bytes == 300
    assert names(index.past(FOREVER, 9)) == [1]


def test_a_head_that_was_read_describes_its_row(index: Index) -> None:
    index.fold([put(1, 100)], "j", 0)
    (row,) = index.new(9)
    index.describe([(row.id, head(tags=("a", "b", "a")))])
    assert index.new(9) == []
    assert index.totals().bytes == 300
    assert names(index.past(6256, 9)) == [1]
    index.fold([put(1, 100)], "j", 0)
    assert names(index.new(9)) == [1]


def test_a_file_that_is_put_again_has_the_tags_that_are_told_of_it_then(index: Index) -> None:
    (record, _) = put(1)
    index.fold([(record, head(tags=("a", "b")))], "j", 0)
    assert index.new(9) == []
    assert names(index.tagged("a", 0, 9)) == [1]
    index.fold([(record, head("http://h/other", tags=("b", "c"))), touch(1)], "j", 0)
    assert index.totals().entries == 1
    assert [names(index.tagged(tag, 0, 9)) for tag in "abc"] == [[], [1], [1]]
    assert [names(index.of_url(url)) for url in ("http://h/", "http://h/other")] == [[], [1]]
    index.fold([put(1)], "j", 0)
    assert names(index.tagged("b", 0, 9)) == []
    assert names(index.new(9)) == [1]


def test_what_is_removed_leaves_nothing(index: Index, tmp_path: Path) -> None:
    index.fold([put(1), put(2)], "j", 0)
    one, two = index.named([name(1), name(2), name(3)])
    index.describe([(one.id, head(tags=("a",))), (two.id, head(tags=("a",)))])
    index.remove([one.id, two.id, 77])
    assert index.totals() == Totals(0, 0, 0)
    database = sqlite3.connect(tmp_path / INDEX)
    assert database.execute("SELECT * FROM tag").fetchall() == []
    database.close()


def test_rows_are_found_by_the_beginning_of_their_names(index: Index) -> None:
    low, high = b"\xab\xcd" + bytes(14), b"\xab\xcd" + b"\xff" * 14
    others = [b"\xab\xcc" + b"\xff" * 14, b"\xab\xce" + bytes(14)]
    index.add([Found(each, 1, 1) for each in [low, high, *others]])
    assert {row.name for row in index.under(b"\xab\xcd")} == {low, high}


def test_a_later_end_is_noted(index: Index) -> None:
    index.fold([put(1, keep_until=1000)], "j", 0)
    index.keep(index.past(2000, 9)[0].id, 2000)
    assert index.past(2000, 9) == []


def test_numbers_are_kept_and_forgotten(index: Index) -> None:
    assert index.mark("a") is None
    index.set_mark("a", 5)
    index.set_mark("a", 6)
    assert index.mark("a") == 6
    index.set_mark("a", None)
    assert index.mark("a") is None


@given(
    st.lists(
        st.tuples(
            st.integers(0, 5), st.sampled_from(["put", "add", "remove"]), st.integers(0, 9999)
        )
    )
)
def test_the_totals_are_the_sums(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[int, str, int]]
) -> None:
    index = Index(tmp_path_factory.mktemp("index"))
    expected: dict[int, int] = {}
    for number, event, size in events:
        if event == "put":
            index.fold([put(number, size)], "j", 0)
            expected[number] = size
        elif event == "add":
            index.add([Found(name(number), size, 1)])
            expected.setdefault(number, size)
        else:
            index.remove([row.id for row in index.named([name(number)])])
            expected.pop(number, None)
    disk = sum(-(-size // BLOCK_BYTES) * BLOCK_BYTES for size in expected.values())
    assert index.totals() == Totals(len(expected), sum(expected.values()), disk)
    index.close()


def test_it_is_all_there_when_it_is_opened_again(index: Index, tmp_path: Path) -> None:
    index.fold([put(1)], "j", 40)
    index.close()
    again = Index(tmp_path)
    assert again.totals().entries == 1
    assert again.mark("j") == 40
    again.close()


def test_a_file_that_was_removed_or_replaced_is_noticed(index: Index, tmp_path: Path) -> None:
    assert index.is_current()
    (tmp_path / INDEX).rename(tmp_path / "other")
    assert not index.is_current()
    (tmp_path / INDEX).touch()
    assert not index.is_current()


@pytest.mark.parametrize(
    "content", [b"this is no database" * 100, b"SQLite format 3\0" + b"\xff" * 4080]
)
def test_a_file_that_is_no_catalogue_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / INDEX).write_bytes(content)
    with pytest.raises(IndexDamagedError):
        Index(tmp_path)
    discard(tmp_path)
    assert list(tmp_path.iterdir()) == []
    Index(tmp_path).close()


@pytest.mark.parametrize(
    "statement",
    ["PRAGMA user_version = 99", "DELETE FROM total", "DROP TABLE total", "DROP TABLE entry"],
)
def test_a_catalogue_of_another_make_is_told(tmp_path: Path, statement: str) -> None:
    Index(tmp_path).close()
    database = sqlite3.connect(tmp_path / INDEX)
    database.execute(statement)
    database.commit()
    database.close()
    with pytest.raises(IndexDamagedError), closing(Index(tmp_path)) as index:
        index.new(1)


def test_pages_that_were_overwritten_while_it_is_open_are_told(
    index: Index, tmp_path: Path
) -> None:
    index.add([Found(name(number), number, number) for number in range(5000)])
    index.close()
    size = (tmp_path / INDEX).stat().st_size
    with (tmp_path / INDEX).open("r+b") as file:
        file.seek(size // 2)
        file.write(b"\xaa" * (size - size // 2))
    damaged = Index(tmp_path)
    with pytest.raises(IndexDamagedError):
        damaged.remove([row.id for row in damaged.least_used(5000)])
    damaged.close()


def test_a_catalogue_that_somebody_holds_is_not_taken_for_a_damaged_one(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    holder = sqlite3.connect(tmp_path / INDEX, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    index._database.execute("PRAGMA busy_timeout = 1")
    with pytest.raises(IndexBusyError):
        index.fold([put(1)], "j", 0)
    holder.execute("ROLLBACK")
    holder.close()
    index.fold([put(1)], "j", 0)


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(IndexBusyError):
        Index(tmp_path / "none")


def test_a_failure_in_the_middle_enters_nothing(index: Index) -> None:
    wrong = Record(Kind.PUT, name(2), "nine" * 9, 1, 1)  # type: ignore[arg-type]
    broken = Record(Kind.PUT, name(3), None, 1, 1)  # type: ignore[arg-type]
    with pytest.raises(IndexDamagedError):
        index.fold([put(1), (wrong, None), (broken, None)], "j", 40)
    assert index.totals() == Totals(0, 0, 0)
    assert index.mark("j") is None
