"""What was found whole is believed for a while, as long as the file is the same."""

import os
from pathlib import Path

import pytest

from proxy.cache.checked import BELIEVED_S, MOST_BLOCKS, Checked


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path


def test_nothing_is_known_of_a_file_that_was_not_looked_at(path: Path) -> None:
    assert Checked().until(path.stat(), 3, 9, 0.0) == 3


def test_consecutive_blocks_are_known_once_they_were_checked(path: Path) -> None:
    checked, status = Checked(), path.stat()
    checked.add(status, 2, 4, 0.0)
    checked.add(status, 4, 6, 1.0)
    checked.add(status, 8, 9, 1.0)
    assert checked.until(status, 0, 9, 2.0) == 0
    assert checked.until(status, 2, 9, 2.0) == 6
    assert checked.until(status, 2, 5, 2.0) == 5
    assert checked.until(status, 5, 9, 2.0) == 6
    assert checked.until(status, 8, 20, 2.0) == 9
    assert checked.until(status, 12, 20, 2.0) == 12


def test_nothing_is_believed_for_long(path: Path) -> None:
    checked, status = Checked(), path.stat()
    checked.add(status, 0, 1, 0.0)
    checked.add(status, 1, 2, BELIEVED_S - 1)
    assert checked.until(status, 0, 2, BELIEVED_S - 1) == 2
    assert checked.until(status, 0, 2, BELIEVED_S) == 0
    checked.add(status, 1, 2, BELIEVED_S)
    assert checked.until(status, 0, 2, BELIEVED_S) == 0
    assert checked.until(status, 1, 2, BELIEVED_S) == 2


@pytest.mark.parametrize("change", ["another file", "another size", "another time"])
def test_another_file_is_not_believed(path: Path, change: str) -> None:
    checked, status = Checked(), path.stat()
    checked.add(status, 0, 4, 0.0)
    if change == "another file":
        other = path.with_name("other")
        other.write_bytes(b"content")
        os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
        other.rename(path)
    elif change == "another size":
        os.truncate(path, 3)
    else:
        os.utime(path, ns=(0, 0))
    assert checked.until(path.stat(), 0, 4, 0.0) == 0
    checked.add(path.stat(), 2, 3, 0.0)
    assert checked.until(path.stat(), 0, 4, 0.0) == 0
    assert checked.until(path.stat(), 2, 4, 0.0) == 3


def test_the_memory_is_bounded(path: Path) -> None:
    checked, status = Checked(), path.stat()
    checked.add(status, MOST_BLOCKS - 2, MOST_BLOCKS + 2, 0.0)
    checked.add(status, MOST_BLOCKS + 2, MOST_BLOCKS + 4, 0.0)
    assert checked.until(status, MOST_BLOCKS - 2, MOST_BLOCKS + 4, 0.0) == MOST_BLOCKS
    assert checked.until(status, MOST_BLOCKS, MOST_BLOCKS + 4, 0.0) == MOST_BLOCKS
    assert checked.until(status, MOST_BLOCKS + 2, MOST_BLOCKS + 4, 0.0) == MOST_BLOCKS + 2
