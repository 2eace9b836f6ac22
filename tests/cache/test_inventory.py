"""What tools see of the catalogue."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.cache.index import INDEX, Described, Index
from proxy.cache.inventory import Inventory, InventoryError, Sort
from proxy.cache.journal import NAME_BYTES, Kind, Record

ENTRIES = [
    # key, variant, size, stored at, hits, status, tags
    ("https://h/a?x=1", "", 100, 50, 2, 200, ("red", "blue")),
    ("https://h/a?x=2", "", 900, 40, 0, 200, ()),
    ("https://h/axx=1", "", 300, 30, 9, 404, ("red",)),
    ("https://h/b[1]", "de", 5000, 20, 1, 200, ()),
    ("https://h/b[1]", "en", 400, 10, 0, 200, ()),
    ("https://h/\xff", "", 1, 60, 0, 200, ()),
]


def name(number: int) -> bytes:
    return number.to_bytes(NAME_BYTES, "big")


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    opened = Index(tmp_path)
    for number, (key, variant, size, at, hits, status, tags) in enumerate(ENTRIES):
        opened.fold(
            [
                (Record(Kind.PUT, name(number), size, 5000, at), None),
                (Record(Kind.TOUCH, name(number), hits, 0, at + number), None),
            ],
            "j",
            0,
        )
        (row,) = opened.new(1)
        opened.describe(
            [(row.id, Described(size, 6000, key, variant, status, "text/plain", 70, tags))]
        )
    opened.fold([(Record(Kind.PUT, name(98), 10, 5000, 100), None)], "j", 0)
    opened.describe([(opened.new(1)[0].id, Described(10, key="https://h/b[1]"))])
    opened.fold([(Record(Kind.PUT, name(99), 10, 5000, 100), None)], "j", 0)
    yield opened
    opened.close()


@pytest.fixture
def inventory(index: Index, tmp_path: Path) -> Iterator[Inventory]:
    opened = Inventory(tmp_path)
    yield opened
    opened.close()


def test_the_numbers_of_all_that_is_stored(inventory: Inventory) -> None:
    stats = inventory.stats()
    assert stats == (8, 6721, 9 * 4096, 1, 12, 10, {200: 5, 404: 1})


def test_the_numbers_of_an_empty_cache(tmp_path: Path) -> None:
    Index(tmp_path).close()
    inventory = Inventory(tmp_path)
    assert inventory.stats() == (0, 0, 0, 0, 0, None, {})
    assert inventory.ls() == []
    inventory.close()


def test_all_is_shown_of_one_entry(inventory: Inventory) -> None:
    (item,) = inventory.of_key("https://h/a?x=1")
    assert item._asdict() == {
        "name": name(0).hex(),
        "key": "https://h/a?x=1",
        "variant": "",
        "size_bytes": 100,
        "stored_at": 50,
        "used_at": 50,
        "keep_until": 6000,
        "fresh_until": 70,
        "hits": 2,
        "status": 200,
        "content_type": "text/plain",
        "tags": ("blue", "red"),
    }


@pytest.mark.parametrize(
    ("sort", "keys"),
    [
        ("size", ["https://h/b[1]", "https://h/a?x=2", "https://h/b[1]"]),
        ("age", ["https://h/b[1]", "https://h/b[1]", "https://h/axx=1"]),
        ("hits", ["https://h/axx=1", "https://h/a?x=1", "https://h/b[1]"]),
        ("used", ["https://h/\xff", "https://h/a?x=1", "https://h/a?x=2"]),
        ("key", ["https://h/a?x=1", "https://h/a?x=2", "https://h/axx=1"]),
    ],
)
def test_entries_are_sorted_and_the_first_are_shown(
    inventory: Inventory, sort: Sort, keys: list[str]
) -> None:
    assert [item.key for item in inventory.ls(sort=sort, limit=3)] == keys


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*", 6),
        ("https://h/a?x=*", 2),
        ("*[1]", 2),
        ("*=1", 2),
        ("https://h/a", 0),
        ("*A*", 0),
        ("*\xff", 1),
    ],
)
def test_only_the_star_of_a_pattern_is_special(
    inventory: Inventory, pattern: str, found: int
) -> None:
    assert len(inventory.ls(pattern)) == found


def test_entries_are_found_by_tag(inventory: Inventory) -> None:
    assert [item.key for item in inventory.tagged("red")] == ["https://h/a?x=1", "https://h/axx=1"]
    assert inventory.tagged("re") == []
    assert len(inventory.tagged("red", limit=1)) == 1


def test_entries_are_found_by_prefix(inventory: Inventory) -> None:
    assert [item.key for item in inventory.under("https://h/a?")] == [
        "https://h/a?x=1", "https://h/a?x=2",
    ]  # fmt: skip
    assert len(inventory.under("https://h/")) == 6
    assert len(inventory.under("https://h/", limit=4)) == 4
    assert inventory.under("https://x") == []


def test_it_sees_what_the_keeper_has_just_written(inventory: Inventory, index: Index) -> None:
    index.remove([row.id for row in index.named([name(0)])])
    assert inventory.of_key("https://h/a?x=1") == []


def test_a_catalogue_that_is_not_there_is_told_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(InventoryError, match="is it running"):
        Inventory(tmp_path)


def test_a_catalogue_that_is_none_is_told(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_bytes(b"nothing that SQLite knows" * 50)
    inventory = Inventory(tmp_path)
    with pytest.raises(InventoryError, match="not a database"):
        inventory.stats()
    inventory.close()
