"""What the tools ask the catalogue of the disk cache: how much there is, and which entries.

Reads only, beside the keeper that writes; each answer is what the catalogue held at one moment.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, NamedTuple
from urllib.parse import quote

from proxy.cache.index import (
    INDEX,
    IndexBusyError,
    IndexDamagedError,
    glob_of,
    told_apart,
    url_number,
)
from proxy.errors import ProxydError

Sort = Literal["size", "age", "hits", "used", "key"]

# The largest, the oldest, the most used, the latest used first, and by name.
_ORDER: dict[Sort, str] = {
    "size": "size DESC",
    "age": "stored_at",
    "hits": "hits DESC",
    "used": "used_at DESC",
    "key": "key, variant",
}
# A tool waits for a keeper that has just opened its file; not for more.
_BUSY_S = 2.0

_COLUMNS = """
SELECT lower(hex(name)), key, variant, size, stored_at, used_at, keep_until, fresh_until, hits,
    status, content_type,
    coalesce((SELECT group_concat(tag, ' ') FROM tag WHERE tag.entry = entry.id), '')
FROM entry
"""


class InventoryError(ProxydError):
    """The catalogue cannot be read; the message says what to do."""


class Item(NamedTuple):
    """One file of the disk cache; times are seconds since the epoch.

    `name` is the file's name in hexadecimal digits; `size_bytes` is the file's size, its head
    included; `key` and `variant` are the entry's bytes as Latin-1.
    """

    name: str
    key: str
    variant: str
    size_bytes: int
    stored_at: int
    used_at: int
    keep_until: int
    fresh_until: int
    hits: int
    status: int
    content_type: str
    tags: tuple[str, ...]


class Stats(NamedTuple):
    """How much is stored; `unread` files are known by their names only so far.

    `files` counts entries, and for each key with a Vary a small file that says so. `statuses` has
    the number of entries of each status; `hits` counts the uses of what is stored now; `oldest_at`
    is when the oldest entry was stored, in seconds since the epoch.
    """

    files: int
    bytes: int
    disk_bytes: int
    unread: int
    hits: int
    oldest_at: int | None
    statuses: dict[int, int]


class Inventory:
    """The catalogue, open for reading; every method may raise InventoryError."""

    def __init__(self, folder: Path) -> None:
        """Open the catalogue of the cache in `folder`."""
        self._path = folder / INDEX
        address = f"file:{quote(str(self._path))}?mode=ro"
        try:
            with told_apart():
                self._database = sqlite3.connect(
                    address, uri=True, timeout=_BUSY_S, isolation_level=None
                )
        except (IndexBusyError, IndexDamagedError) as error:
            raise self._error(error) from None

    def _error(self, error: Exception) -> InventoryError:
        return InventoryError(
            f"the catalogue {self._path} cannot be read ({error}); it is written by the proxyd"
            " that serves from this cache: is it running, and may this user read its files?"
        )

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def _read(self, statement: str, arguments: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        try:
            with told_apart(), closing(self._database.execute(statement, arguments)) as rows:
                return rows.fetchall()
        except (IndexBusyError, IndexDamagedError) as error:
            raise self._error(error) from None

    def _items(self, where: str, arguments: Sequence[object]) -> list[Item]:
        rows = self._read(f"{_COLUMNS} WHERE status IS NOT NULL AND {where}", arguments)
        return [Item._make((*row[:-1], tuple(row[-1].split()))) for row in rows]

    def totals(self) -> tuple[int, int]:
        """Return the number of files, and what they take on the disk in bytes."""
        ((files, disk_bytes),) = self._read("SELECT entries, disk_bytes FROM total")
        return files, disk_bytes

    def stats(self) -> Stats:
        """Return how much is stored."""
        (totals,) = self._read("SELECT entries, bytes, disk_bytes FROM total")
        ((unread,),) = self._read("SELECT count(*) FROM entry WHERE described = 0")
        ((hits, oldest_at),) = self._read("SELECT sum(hits), min(stored_at) FROM entry")
        statuses = self._read(
            "SELECT status, count(*) FROM entry WHERE status IS NOT NULL GROUP BY status"
        )
        return Stats._make((*totals, unread, hits or 0, oldest_at, dict(statuses)))

    def ls(self, pattern: str = "*", sort: Sort = "size", limit: int = 100) -> list[Item]:
        """Return the first `limit` entries whose keys match; `*` stands for anything."""
        return self._items(
            f"key GLOB ? ORDER BY {_ORDER[sort]}, id LIMIT ?", [glob_of(pattern), limit]
        )

    def of_key(self, key: str) -> list[Item]:
        """Return the entry of a primary key, and its variants."""
        return self._items("url = ? AND key = ? ORDER BY variant", [url_number(key), key])

    def tagged(self, tag: str, limit: int = 100) -> list[Item]:
        """Return the first `limit` entries that carry a tag."""
        return self._items(
            "id IN (SELECT entry FROM tag WHERE tag = ?) ORDER BY key, variant LIMIT ?",
            [tag, limit],
        )

    def under(self, prefix: str, limit: int = 100) -> list[Item]:
        """Return the first `limit` entries whose keys begin so."""
        return self._items(
            "key >= ? AND key < ? ORDER BY key, variant LIMIT ?", [prefix, end_of(prefix), limit]
        )


def end_of(prefix: str) -> str:
    """Return what is past every text of Latin-1 that begins with `prefix`."""
    return prefix + "\U0010ffff"
