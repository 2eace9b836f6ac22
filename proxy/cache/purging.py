"""Removes the files of entries that a purge names, so that they do not wait to be looked up.

Workers heed a purge at once and without this (purges.py); here their disk is given back. Only hard
purges are searched for, once each: the catalogue names the candidates, the purge number in a file's
head says whether it is older.
"""

from collections.abc import Iterator
from pathlib import Path

from proxy.cache.index import Index, Row, glob_of
from proxy.cache.purge_file import PurgeFile, Record
from proxy.cache.purges import PURGES, Kind, Verdict

_MARK = "purged"
# Candidates in a page, and rows that are looked through for one: some milliseconds.
_PAGE_ROWS = 100
_WINDOW_ROWS = 5000


class Purging:
    """What is still to be searched for; `step` returns candidates, a page at a time."""

    def __init__(self, folder: Path, index: Index) -> None:
        """Follow the purges of the cache in `folder`; raises OSError, PurgeError."""
        self._index = index
        self._path = folder / PURGES
        self._open()

    def _open(self) -> None:
        self._file = PurgeFile(self._path)
        self._read = -1
        self._records: list[Record] = []
        self._pages: Iterator[list[Row]] | None = None

    def step(self) -> list[Row] | None:
        """Return the next candidates for removal, None when there are none left.

        Raises OSError, PurgeError, and the index's errors; the search is then begun again.
        """
        if not self._file.is_in_place():
            held = self._file
            self._open()
            held.close()
        if not self._records:
            self._learn()
        if not self._records:
            return None
        if self._pages is None:
            self._pages = _candidates(self._index, self._records[0])
        try:
            page = next(self._pages, None)
        except BaseException:
            self._pages = None
            raise
        if page is not None:
            return page
        self._index.set_mark(_MARK, self._records.pop(0).sequence)
        self._pages = None
        return []

    def _learn(self) -> None:
        """Read what has been purged since the last time."""
        file = self._file
        if file.written == self._read:
            return
        with file.locked():
            current = file.words[1]
            # Fewer than there were: the file was begun anew.
            records = list(file.records(self._read if self._read <= file.written else 0))
            self._read = file.written
        mark = self._index.mark(_MARK)
        if mark is None:
            # A new catalogue: files are compared with these purges when they are described.
            self._index.set_mark(_MARK, current)
            return
        since = mark if mark <= current else 0
        self._records = [
            record for record in records if record.sequence > since and record.mode == Verdict.HARD
        ]

    def close(self) -> None:
        """Close the file of purges."""
        self._file.close()


def _candidates(index: Index, record: Record) -> Iterator[list[Row]]:
    """Yield the rows that a purge may be about, a page at a time."""
    argument = record.argument.decode("latin-1")
    if record.kind == Kind.URL:
        rows = index.of_url(argument)
        for start in range(0, len(rows), _PAGE_ROWS):
            yield rows[start : start + _PAGE_ROWS]
    elif record.kind == Kind.TAG:
        after = 0
        while rows := index.tagged(argument, after, _PAGE_ROWS):
            yield rows
            after = rows[-1].id
    else:
        yield from _matching(index, _glob(record.kind, argument))


def _matching(index: Index, glob: str) -> Iterator[list[Row]]:
    """Yield rows by their keys; a page may be empty, as each looks through a window only."""
    after = 0
    while (until := index.window(after, _WINDOW_ROWS)) is not None:
        rows = index.globbed(glob, after, until)
        for start in range(0, max(len(rows), 1), _PAGE_ROWS):
            yield rows[start : start + _PAGE_ROWS]
        after = until


def _glob(kind: int, argument: str) -> str:
    if kind == Kind.ALL:
        return "*"
    return (
        glob_of(argument) if kind == Kind.PATTERN else glob_of(argument).replace("*", "[*]") + "*"
    )
