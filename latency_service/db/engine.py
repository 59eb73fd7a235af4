"""One place for engines, pragmas and transactions.

A unit of work is one transaction: `Database.read` or `Database.write`. On SQLite a writing one
begins IMMEDIATE: a transaction that reads first and writes later would fail with `database is
locked` instead of waiting its turn.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.orm import Session

from latency_service.core.kill_points import pass_kill_point

BUSY_TIMEOUT_MS = 30_000


class Database:
    """Engines and units of work of one database. Thread-safe; sessions are not."""

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        self.engine = make_engine(url, pool_size=pool_size)
        self._writer = self.engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")

    @property
    def dialect(self) -> str:
        return self.engine.dialect.name

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that stores nothing."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that is committed when the block ends, and rolled back when it raises."""
        with Session(self._writer, expire_on_commit=False) as session, session.begin():
            yield session
            pass_kill_point("transaction-before-commit")
        pass_kill_point("transaction-after-commit")

    def dispose(self) -> None:
        self.engine.dispose()


def make_engine(url: str, *, pool_size: int = 10) -> Engine:
    """An engine for SQLite (made with its folder when it does not exist) or PostgreSQL.

    Raises:
        ValueError: another dialect.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        if parsed.database and parsed.database != ":memory:":
            _create_private(Path(parsed.database))
        engine = create_engine(parsed, pool_size=pool_size, max_overflow=pool_size, pool_timeout=60)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
        return engine
    if parsed.get_backend_name() == "postgresql":
        return create_engine(
            parsed, pool_size=pool_size, max_overflow=pool_size, pool_timeout=60, pool_pre_ping=True
        )
    raise ValueError(
        f"no support for {parsed.get_backend_name()!r} databases. Set "
        "LATENCY_SERVICE_DATABASE_URL to "
        "sqlite:///path or postgresql://user:password@host/name."
    )


def _create_private(path: Path) -> None:
    """Make an empty database that its owner alone may read: it holds delivered weights.

    SQLite gives its other files the same permissions.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with suppress(OSError):  # it exists, or SQLite says why it cannot be made
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = (
        None  # transactions are begun by `_begin_sqlite`, not by the driver
    )
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    _switch_to_wal(cursor)
    cursor.execute("PRAGMA synchronous = FULL")
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _switch_to_wal(cursor: Any) -> None:
    """Beside another process that switches too: SQLite calls the file locked then without waiting
    for it.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_MS / 1000
    while True:
        try:
            cursor.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))
