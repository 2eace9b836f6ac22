"""Compares the catalogue with the folders of the disk cache: the pass that makes it right again.

Runs at every start, after records were lost and for a catalogue that is made anew, beside all other
work: nginx's cache loader does the same. Only names and sizes are looked at here.

    <folder>/<aa>/<name>      name: 32 hexadecimal digits that begin with aa

Files that were begun and never finished are removed on the way.
"""

import os
import stat
from pathlib import Path

from proxy.cache.disk_folder import UNFINISHED, remove_leftover
from proxy.cache.index import Found, Index, Row
from proxy.cache.journal import NAME_BYTES

# Folders aa that there can be.
_FOLDERS = 0x100
# After so many files a step is over: about 10 ms, or one folder.
_STEP_FILES = 1000


class Scan:
    """One pass over all folders, a step at a time; `added` and `forgotten` count what was wrong."""

    def __init__(self, folder: Path, index: Index, leftover_before: float = 0.0) -> None:
        """What was begun before `leftover_before`, in seconds since the epoch, is a leftover."""
        self._root = str(folder)
        self._index = index
        self._leftover_before = leftover_before
        self._next = 0
        self.added = 0
        self.forgotten = 0

    @property
    def is_done(self) -> bool:
        """Whether the pass is over."""
        return self._next >= _FOLDERS

    def step(self) -> bool:
        """Look at some folders; True when there are more."""
        files = 0
        new: list[Found] = []
        gone: list[Row] = []
        while not self.is_done and files < _STEP_FILES:
            files += self._compare(self._next.to_bytes(1, "big"), new, gone)
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
        folder = f"{self._root}/{prefix.hex()}"
        # The rows come first: a file that is put meanwhile is then new, and not taken for lost.
        rows = {row.name: row for row in self._index.under(prefix)}
        listed = _listed(folder)
        if listed is None:
            return 0
        for text in listed:
            if text.startswith(UNFINISHED):
                remove_leftover(f"{folder}/{text}", self._leftover_before)
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
