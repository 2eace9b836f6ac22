"""The catalogue of the disk cache: an SQLite file that the keeper writes and the tools read.

It says which files there are, how large, how often and when last used, until when worth keeping,
and what their heads say of them. It decides nothing that is served: who loses it loses the counted
hits, and the keeper makes it again from the files.

A row that the journal brings is `described`, as far as the worker that stored the file has told;
others come in two steps: with a name and a size, also from a folder's listing, and then described,
when the file's head was read.
"""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from itertools import groupby
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from proxy.cache.journal import LATEST, Kind, Record
from proxy.errors import ProxydError

INDEX = "index.sqlite"
# Later than every time there is, as the journal has it: what is not known to end.
FOREVER = LATEST
# What a file takes on most file systems is a multiple of this (`disk_size` below); nginx's max_size
# counts so as well.
BLOCK_BYTES = 4096

# As the schema's last line has it.
_VERSION = 2
# Pages that SQLite keeps: the upper levels of its trees for millions of rows.
_PAGES_KIB = 8 * 1024
# The log is folded into the file, with an fsync, after this many pages (64 MiB): most of what was
# changed meanwhile was changed more than once.
_CHECKPOINT_PAGES = 16384
# A tool that reads is in no one's way; one that has the file locked is waited for so long.
_BUSY_S = 1.0
# Failures that pass, or that a new file would share; all others mean that the file is damaged.
_PASSING = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_PERM,
    }
)

# What is ordered here is changed in places without order, as files are named by hashes: each index
# is kept small, or coarse, so that its changes fall on few pages. Hence steps of 256 s in
# `entry_keep` and `_COARSE_S`, and numbers for URLs (see `url_number`).
_COARSE_S = 256
_SCHEMA = """
CREATE TABLE entry (
    id INTEGER PRIMARY KEY,
    name BLOB NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    disk_size INTEGER GENERATED ALWAYS AS ((size + 4095) / 4096 * 4096) VIRTUAL,
    stored_at INTEGER NOT NULL,
    used_at INTEGER NOT NULL,
    keep_until INTEGER NOT NULL,
    hits INTEGER NOT NULL DEFAULT 0,
    described INTEGER NOT NULL DEFAULT 0,
    url INTEGER, key TEXT, variant TEXT, status INTEGER, content_type TEXT, fresh_until INTEGER
);
CREATE INDEX entry_used ON entry (used_at);
CREATE INDEX entry_keep ON entry (keep_until / 256);
CREATE INDEX entry_url ON entry (url);
CREATE INDEX entry_new ON entry (id) WHERE described = 0;
CREATE TABLE tag (tag TEXT, entry INTEGER, PRIMARY KEY (tag, entry)) WITHOUT ROWID;
CREATE INDEX tag_entry ON tag (entry);
CREATE TABLE mark (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE total (entries INTEGER, bytes INTEGER, disk_bytes INTEGER);
INSERT INTO total VALUES (0, 0, 0);
CREATE TRIGGER entry_added AFTER INSERT ON entry BEGIN
    UPDATE total SET entries = entries + 1, bytes = bytes + new.size,
        disk_bytes = disk_bytes + new.disk_size;
END;
CREATE TRIGGER entry_removed AFTER DELETE ON entry BEGIN
    UPDATE total SET entries = entries - 1, bytes = bytes - old.size,
        disk_bytes = disk_bytes - old.disk_size;
    DELETE FROM tag WHERE entry = old.id;
END;
CREATE TRIGGER entry_described AFTER UPDATE OF described ON entry BEGIN
    DELETE FROM tag WHERE entry = old.id;
END;
CREATE TRIGGER entry_changed AFTER UPDATE OF size ON entry WHEN new.size <> old.size BEGIN
    UPDATE total SET bytes = bytes + new.size - old.size,
        disk_bytes = disk_bytes + new.disk_size - old.disk_size;
END;
PRAGMA user_version = 2;
"""
_PUT = """
INSERT INTO entry (name, size, stored_at, used_at, keep_until) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET size = excluded.size, stored_at = excluded.stored_at,
    used_at = max(used_at, excluded.used_at), keep_until = excluded.keep_until, described = 0
"""
_PUT_DESCRIBED = """
INSERT INTO entry (name, size, stored_at, used_at, keep_until, described,
    url, key, variant, status, content_type, fresh_until)
VALUES (?, ?, ?, ?, ?, 1, ?, ?, ?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET size = excluded.size, stored_at = excluded.stored_at,
    used_at = max(used_at, excluded.used_at), keep_until = excluded.keep_until, described = 1,
    url = excluded.url, key = excluded.key, variant = excluded.variant, status = excluded.status,
    content_type = excluded.content_type, fresh_until = excluded.fresh_until
"""
# A minute more or less is nothing to an entry that is in use.
_TOUCH = """
UPDATE entry SET hits = hits + ?, used_at = iif(used_at > ? - 60, used_at, ?) WHERE name = ?
"""
_TAG = "INSERT OR IGNORE INTO tag SELECT ?, id FROM entry WHERE name = ?"
_DESCRIBE = """
UPDATE entry SET described = 1, size = ?, keep_until = coalesce(?, keep_until), url = ?,
    key = ?, variant = ?, status = ?, content_type = ?, fresh_until = ?
WHERE id = ?
"""


class IndexDamagedError(ProxydError):
    """The file is not a catalogue, or no longer; it has to be made again."""


class IndexBusyError(ProxydError):
    """The catalogue cannot be read or written now; later it may."""


class Row(NamedTuple):
    """One file as the keeper's work needs it."""

    id: int
    name: bytes
    size_bytes: int


class Found(NamedTuple):
    """A file that a listing shows."""

    name: bytes
    size_bytes: int
    modified_at: int


class Described(NamedTuple):
    """What a file's head says; times are seconds since the epoch, text is Latin-1 of the bytes.

    What marks a key whose entries have a Vary has a key and no status; what cannot be read has
    neither.
    """

    size_bytes: int
    keep_until: int | None = None
    key: str | None = None
    variant: str = ""
    status: int | None = None
    content_type: str = ""
    fresh_until: int = 0
    tags: tuple[str, ...] = ()


class Totals(NamedTuple):
    """How much there is; `disk_bytes` counts whole blocks, which is what the limit is for."""

    entries: int
    bytes: int
    disk_bytes: int


@contextmanager
def told_apart() -> Iterator[None]:
    """Turn SQLite's errors into the two that matter: try again, or make it again."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
        if code in _PASSING:
            raise IndexBusyError(str(error)) from None
        raise IndexDamagedError(str(error)) from None


class Index:
    """The keeper's end of the catalogue; every method may raise the two errors above.

    Each call is one transaction of the size that its caller chooses.
    """

    def __init__(self, folder: Path) -> None:
        """Open the catalogue of the cache in `folder`, or make it."""
        self.path = folder / INDEX
        with told_apart():
            self._database = sqlite3.connect(self.path, timeout=_BUSY_S, isolation_level=None)
            try:
                self._prepare()
                self._status = self.path.stat()
            except BaseException:
                self._database.close()
                raise

    def _prepare(self) -> None:
        database = self._database
        database.execute("PRAGMA journal_mode = WAL")
        # Nothing but a crash of the machine can lose a commit, and none can damage the file.
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute(f"PRAGMA cache_size = -{_PAGES_KIB}")
        database.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            database.executescript("BEGIN IMMEDIATE;" + _SCHEMA + "COMMIT;")
        elif version != _VERSION:
            raise sqlite3.DatabaseError(f"it has the version {version}, not {_VERSION}")
        self.totals()

    def close(self) -> None:
        """Close the file."""
        with suppress(sqlite3.Error):
            self._database.close()

    def is_current(self) -> bool:
        """Whether the file that is open is still the one of that name."""
        try:
            status = self.path.stat()
        except OSError:
            return False
        return (status.st_ino, status.st_dev) == (self._status.st_ino, self._status.st_dev)

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with told_apart():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
                self._database.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._database.execute("ROLLBACK")
                raise

    def _rows(self, statement: str, arguments: Sequence[object]) -> list[Row]:
        with told_apart(), closing(self._database.execute(statement, arguments)) as found:
            return [Row(*row) for row in found]

    def mark(self, name: str) -> int | None:
        """Return a number that was kept under `name`."""
        with told_apart():
            row = self._database.execute("SELECT value FROM mark WHERE name = ?", [name]).fetchone()
        return None if row is None else int(row[0])

    def set_mark(self, name: str, value: int | None) -> None:
        """Keep a number under `name`; None forgets it."""
        with self._transaction() as database:
            _set_mark(database, name, value)

    def totals(self) -> Totals:
        """Return how much there is, at no cost."""
        with told_apart():
            row = self._database.execute("SELECT entries, bytes, disk_bytes FROM total").fetchone()
        if row is None:
            raise IndexDamagedError("it has no totals")
        return Totals(*row)

    def fold(
        self, records: Iterable[tuple[Record, Described | None]], mark: str, position: int
    ) -> None:
        """Enter what the journal says of files that are there, and how far it was read.

        Records are in the order of their events, each with what is known of a file that was put;
        drops are not for this (see `remove`).
        """
        with self._transaction() as database:
            # Many of one kind follow one another, which SQLite takes in one call.
            for statement, group in groupby(records, _statement):
                told = list(group)
                if statement:
                    database.executemany(statement, [_arguments(*one) for one in told])
                tags = [(tag, one.name) for one, head in told if head for tag in head.tags]
                if tags:
                    database.executemany(_TAG, tags)
            _set_mark(database, mark, position)

    def add(self, files: Iterable[Found]) -> None:
        """Enter files that a listing shows; those that are known stay as they are.

        When they were used last is not known but for the times they were written.
        """
        with self._transaction() as database:
            database.executemany(
                "INSERT INTO entry (name, size, stored_at, used_at, keep_until)"
                " VALUES (?, ?, ?, ?, ?) ON CONFLICT (name) DO NOTHING",
                [
                    (file.name, file.size_bytes, file.modified_at, _coarse(file), FOREVER)
                    for file in files
                ],
            )

    def describe(self, described: Iterable[tuple[int, Described]]) -> None:
        """Enter what was read in the heads of the rows with these ids."""
        heads = list(described)
        with self._transaction() as database:
            database.executemany(_DESCRIBE, [_row(id_, head) for id_, head in heads])
            database.executemany(
                "INSERT OR IGNORE INTO tag VALUES (?, ?)",
                [(tag, id_) for id_, head in heads for tag in head.tags],
            )

    def keep(self, id_: int, until: int) -> None:
        """Note a later end of an entry's time."""
        with self._transaction() as database:
            database.execute("UPDATE entry SET keep_until = ? WHERE id = ?", [until, id_])

    def remove(self, ids: Iterable[int]) -> None:
        """Forget rows."""
        with self._transaction() as database:
            database.executemany("DELETE FROM entry WHERE id = ?", [(id_,) for id_ in ids])

    def named(self, names: Sequence[bytes]) -> list[Row]:
        """Return the rows of these names, at most 500."""
        marks = ",".join("?" * len(names))
        return self._rows(f"SELECT id, name, size FROM entry WHERE name IN ({marks})", names)  # noqa: S608

    def under(self, prefix: bytes, limit: int = -1) -> list[Row]:
        """Return rows whose names begin so, for names of 16 bytes; all of them without a limit."""
        return self._rows(
            "SELECT id, name, size FROM entry WHERE name >= ? AND name <= ? LIMIT ?",
            [prefix, prefix + b"\xff" * 16, limit],
        )

    def least_used(self, limit: int) -> list[Row]:
        """Return the rows that were not used for the longest time."""
        return self._rows("SELECT id, name, size FROM entry ORDER BY used_at LIMIT ?", [limit])

    def past(self, now: int, limit: int) -> list[Row]:
        """Return rows that need not be kept any longer, and need not for some minutes already."""
        return self._rows(
            "SELECT id, name, size FROM entry WHERE keep_until / 256 < ? LIMIT ?",
            [now // _COARSE_S, limit],
        )

    def new(self, limit: int) -> list[Row]:
        """Return rows that are not described yet."""
        return self._rows(
            "SELECT id, name, size FROM entry WHERE described = 0 ORDER BY id LIMIT ?", [limit]
        )

    def of_url(self, url: str) -> list[Row]:
        """Return the rows of a URL, whatever else is in their keys, and perhaps of others."""
        return self._rows("SELECT id, name, size FROM entry WHERE url = ?", [url_number(url)])

    def tagged(self, tag: str, after: int, limit: int) -> list[Row]:
        """Return rows that carry a tag, with ids above `after`, by id."""
        return self._rows(
            "SELECT id, name, size FROM tag JOIN entry ON entry.id = tag.entry"
            " WHERE tag = ? AND tag.entry > ? ORDER BY tag.entry LIMIT ?",
            [tag, after, limit],
        )

    def window(self, after: int, size: int) -> int | None:
        """Return the id that ends the next `size` rows after one; None when there are no more."""
        with told_apart():
            row = self._database.execute(
                "SELECT max(id) FROM (SELECT id FROM entry WHERE id > ? ORDER BY id LIMIT ?)",
                [after, size],
            ).fetchone()
        return None if row[0] is None else int(row[0])

    def globbed(self, glob: str, after: int, until: int) -> list[Row]:
        """Return rows of a window of ids whose URLs match SQLite's GLOB, and perhaps others."""
        return self._rows(
            "SELECT id, name, size FROM entry WHERE id > ? AND id <= ?"
            " AND (key GLOB ? OR key GLOB ?)",
            [after, until, glob, f"{glob} *"],
        )


def glob_of(pattern: str) -> str:
    """Return SQLite's GLOB for a pattern in which only `*` is special; URLs have `?` and `[`."""
    return pattern.replace("[", "[[]").replace("?", "[?]")


def url_number(key: str) -> int:
    """Return what `entry_url` has for the URL in a key."""
    return crc32(key.partition(" ")[0].encode("latin-1", "replace"))


def _statement(told: tuple[Record, Described | None]) -> str:
    record, head = told
    if record.kind is Kind.PUT:
        return _PUT if head is None else _PUT_DESCRIBED
    return _TOUCH if record.kind is Kind.TOUCH else ""


def _arguments(record: Record, head: Described | None) -> tuple[object, ...]:
    if record.kind is Kind.TOUCH:
        return (record.amount, record.at, record.at, record.name)
    put = (record.name, record.amount, record.at, record.at, record.keep_until)
    if head is None:
        return put
    return (*put, *_told(head))


def _row(id_: int, head: Described) -> tuple[object, ...]:
    return (*head[:2], *_told(head), id_)


def _told(head: Described) -> tuple[object, ...]:
    """Return the columns from `url` on."""
    number = None if head.key is None else url_number(head.key)
    return (number, *head[2:-1])


def _coarse(file: Found) -> int:
    return file.modified_at // _COARSE_S * _COARSE_S


def _set_mark(database: sqlite3.Connection, name: str, value: int | None) -> None:
    if value is None:
        database.execute("DELETE FROM mark WHERE name = ?", [name])
    else:
        database.execute("INSERT OR REPLACE INTO mark VALUES (?, ?)", [name, value])


def discard(folder: Path) -> None:
    """Remove the catalogue's files; raises OSError."""
    for suffix in ("", "-wal", "-shm"):
        (folder / (INDEX + suffix)).unlink(missing_ok=True)
