"""Compares the catalogue with the folders of the disk cache: the pass that makes it right again.

Runs at every start, after records were lost and for a catalogue that is made anew, beside all other
work: nginx's cache loader does the same. Only names and sizes are looked at here.

    <folder>/<aa>/<bb>/<name>      name: 32 hexadecimal digits that begin with aabb
"""

import os
import stat
from pathlib import Path

from proxy.cache.index import Found, Index, Row
from proxy.cache.journal import NAME_BYTES

# Folders aa/bb that there can be.
_FOLDERS = 0x10000
# What one step does at the most: about 10 ms of either.
_STEP_FOLDERS = 256
_STEP_FILES = 1000


class Scan:
    """One pass over all folders, a step at a time; `added` and `forgotten` count what was wrong."""

    def __init__(self, folder: Path, index: Index) -> None:
        self._root = str(folder)
        self._index = index
        self._next = 0
        self._present: set[str] = set()
        self.added = 0
        self.forgotten = 0

    @property
    def is_done(self) -> bool:
        """Whether the pass is over."""
        return self._next >= _FOLDERS

    def step(self) -> bool:
        """Look at some folders; True when there are more."""
        folders = files = 0
        new: list[Found] = []
        gone: list[Row] = []
        while not self.is_done and folders < _STEP_FOLDERS and files < _STEP_FILES:
            prefix = self._next.to_bytes(2, "big")
            folders += 1
            if not prefix[1]:
                self._present = _listed(f"{self._root}/{prefix[:1].hex()}") or set()
                if not self._present and not self._index.under(prefix[:1], 1):
                    self._next += 256
                    continue
            files += self._compare(prefix, new, gone)
            self._next += 1
        if new:
            self._index.add(new)
            self.added += len(new)
        if gone:
            self._index.remove([row.id for row in gone])
            self.forgotten += len(gone)
        return not self.is_done

    def _compare(self, prefix: bytes, new: list[Found], gone: list[Row]) -> int:
        """Find what is wrong with the rows of one folder; return how many files it has."""
        outer, inner = prefix[:1].hex(), prefix[1:].hex()
        folder = f"{self._root}/{outer}/{inner}"
        # The rows come first: a file that is put meanwhile is then new, and not taken for lost.
        rows = {row.name: row for row in self._index.under(prefix)}
        listed = _listed(folder) if inner in self._present else set()
        if listed is None:
            return 0
        names = {name for text in listed if (name := _name_of(text)) and name.startswith(prefix)}
        new += [found for name in names - rows.keys() if (found := _look_at(folder, name))]
        # Renaming a file over another may hide both from a listing for a moment.
        gone += [rows[name] for name in rows.keys() - names if not _look_at(folder, name)]
        return len(names)


def _listed(folder: str) -> set[str] | None:
    """Return the names in a folder, none when it is missing; None when it cannot be read."""
    try:
        return set(os.listdir(folder))
    except FileNotFoundError:
        return set()
    except OSError:
        return None


def _name_of(text: str) -> bytes | None:
    """Return the name that a file's name spells, if it is one of ours."""
    if len(text) != 2 * NAME_BYTES:
        return None
    try:
        name = bytes.fromhex(text)
    except ValueError:
        return None
    return name if name.hex() == text else None


def _look_at(folder: str, name: bytes) -> Found | None:
    try:
        status = os.stat(f"{folder}/{name.hex()}", follow_symlinks=False)
    except OSError:
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return Found(name, status.st_size, max(int(status.st_mtime), 0))
