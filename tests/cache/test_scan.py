"""The pass that makes the catalogue agree with the folders."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy.cache import scan as module
from proxy.cache.index import Found, Index
from proxy.cache.scan import Scan

ONE, TWO, THREE = (bytes.fromhex(text * 16) for text in ("ab", "00", "ff"))


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    opened = Index(tmp_path)
    yield opened
    opened.close()


def make(folder: Path, name: bytes, size: int = 10) -> Path:
    path = folder / name[:1].hex() / name.hex()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(size))
    return path


def scan(folder: Path, index: Index, leftover_before: float = 0.0) -> Scan:
    made = Scan(folder, index, leftover_before)
    while made.step():
        assert not made.is_done
    assert made.is_done
    return made


def test_files_that_are_not_known_are_entered(tmp_path: Path, index: Index) -> None:
    for name in (ONE, TWO, THREE):
        make(tmp_path, name)
    assert scan(tmp_path, index).added == 3
    assert {row.name for row in index.new(9)} == {ONE, TWO, THREE}
    assert index.totals().bytes == 30


def test_files_that_are_gone_are_forgotten(tmp_path: Path, index: Index) -> None:
    index.add([Found(ONE, 5, 5), Found(TWO, 5, 5)])
    make(tmp_path, ONE)
    made = scan(tmp_path, index)
    assert (made.added, made.forgotten) == (0, 1)
    assert [(row.name, row.size_bytes) for row in index.new(9)] == [(ONE, 5)]


def test_only_files_with_a_name_of_ours_count(tmp_path: Path, index: Index) -> None:
    path = make(tmp_path, ONE)
    for other in ("notes.txt", "ab" * 15 + "zz", "AB" * 16, "ab " * 10 + "ab", "cd" * 16):
        (path.parent / other).write_bytes(b"x")
    path.parent.joinpath("abab" + "00" * 14).mkdir()
    path.parent.joinpath("abab" + "01" * 14).symlink_to(path)
    assert scan(tmp_path, index).added == 1
    assert [row.name for row in index.new(9)] == [ONE]


def test_much_is_looked_at_in_steps(
    tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_STEP_FILES", 1)
    for name in (ONE, TWO, THREE):
        make(tmp_path, name)
    made = Scan(tmp_path, index)
    steps = 1
    while made.step():
        steps += 1
    assert steps == 3
    assert made.added == 3


def test_what_was_never_finished_is_removed_in_time(tmp_path: Path, index: Index) -> None:
    folder = make(tmp_path, ONE).parent
    old, young, other = folder / "new-1", folder / "new-2", folder / "notes"
    for path in (old, young, other):
        path.write_bytes(b"x")
    for path in (old, other):
        os.utime(path, (1000, 1000))
    assert scan(tmp_path, index, leftover_before=2000).added == 1
    assert sorted(folder.iterdir()) == sorted([folder / ONE.hex(), young, other])


def test_a_folder_that_cannot_be_read_keeps_its_rows(tmp_path: Path, index: Index) -> None:
    index.add([Found(ONE, 5, 5)])
    make(tmp_path, ONE).parent.rename(tmp_path / "other")
    (tmp_path / "ab").write_bytes(b"no folder")
    assert scan(tmp_path, index).forgotten == 0


def test_a_file_that_a_listing_missed_is_kept(
    tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.add([Found(ONE, 10, 5)])
    make(tmp_path, ONE)
    monkeypatch.setattr(module, "_listed", lambda _: set())
    assert scan(tmp_path, index).forgotten == 0


def test_a_file_that_goes_while_it_is_looked_at_is_left_out(
    tmp_path: Path, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_listed", lambda _: {ONE.hex()})
    assert scan(tmp_path, index).added == 0
