"""The SQLite file: made and seeded by whoever comes first, then opened by every process.

Write-ahead logging lets readers go on while somebody writes. A transaction that will write says so
at its start (BEGIN IMMEDIATE), so it waits for its turn; one that read first and wrote later would
fail at once when somebody else wrote in between, because SQLite cannot renew what it has read.
"""

import fcntl
import os
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Connection, create_engine, event, inspect
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.orm import Session, sessionmaker
from sqlalchemy.pool import ConnectionPoolEntry

from backend.model.seed import seed
from backend.model.tables import Base

_BUSY_MS = 5_000  # how long a writer waits for another; SQLite's own default is not at all


class Database:
    """Sessions on one SQLite file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._engine = create_engine(f"sqlite:///{path}", pool_timeout=10)
        event.listen(self._engine, "connect", _prepare_connection)
        event.listen(self._engine, "begin", _begin)
        writing = self._engine.execution_options(timeline_begin="BEGIN IMMEDIATE")
        self._readers = sessionmaker(self._engine)
        self._writers = sessionmaker(writing)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Give a session that sees one moment of the database."""
        with self._readers() as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Give a session that is alone in writing; commits at the end unless an error leaves it."""
        with self._writers.begin() as session:
            yield session

    def close(self) -> None:
        """Close every idle connection."""
        self._engine.dispose()

    def prepare(self) -> None:
        """Turn on write-ahead logging, make the tables, and seed them when they are new."""
        with self._engine.connect() as connection:
            # The mode cannot change within a transaction, so this goes past the "begin" event.
            raw = connection.connection.dbapi_connection
            if isinstance(raw, sqlite3.Connection):
                raw.execute("PRAGMA journal_mode = WAL")
        with self.write() as session:
            connection = session.connection()
            if not inspect(connection).has_table("users"):
                Base.metadata.create_all(connection)
                seed(session)


def open_database(path: Path) -> tuple[Database, bytes]:
    """Return the database at `path` and the secret beside it, both made when missing.

    A lock file lets one process at a time look and make, so two may start at once. Raises OSError
    and SQLAlchemyError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        secret = _read_or_make_secret(path.with_suffix(".secret"))
        database = Database(path)
        try:
            database.prepare()
        except SQLAlchemyError:
            database.close()
            raise
    return database, secret


def _read_or_make_secret(path: Path) -> bytes:
    if not path.exists():
        # Written aside and renamed: a crash in between must not leave an empty secret.
        aside = path.with_suffix(".secret-new")
        aside.unlink(missing_ok=True)
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_hex(32).encode())
        aside.replace(path)
    return path.read_bytes()


def _prepare_connection(connection: sqlite3.Connection, _entry: ConnectionPoolEntry) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself; `_begin` does
    connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = NORMAL")  # durable enough with a write-ahead log


def _begin(connection: Connection) -> None:
    options = connection.get_execution_options()
    connection.exec_driver_sql(options.get("timeline_begin", "BEGIN"))
