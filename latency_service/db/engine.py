"""One place for engines, pragmas and transactions.

A unit of work is one transaction: `Database.read` or `Database.write`. On SQLite a writing one
begins IMMEDIATE, when its turn has come (`db.turns`): a transaction that reads first and writes
later would fail with `database is locked` instead of waiting its turn.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import DisconnectionError, OperationalError
from sqlalchemy.orm import Session

from latency_service.core.kill_points import pass_kill_point
from latency_service.db.turns import WriterTurns

#: Longest wait of a writer for its turn, and for SQLite's own lock.
BUSY_TIMEOUT_MS = 30_000
#: A connection that has been idle for longer is tried before it is used.
IDLE_SECONDS = 1.0


class Database:
    """Engines and units of work of one database. Thread-safe; sessions are not."""

    def __init__(self, url: str, *, pool_size: int = 10) -> None:
        self.engine = make_engine(url, pool_size=pool_size)
        self._writer = self.engine.execution_options(sqlite_begin="BEGIN IMMEDIATE")
        self._looker = _without_transactions(self.engine)
        self._on_commit: list[Callable[[], None]] = []

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
        self._tell_of_commit()

    @contextmanager
    def change(self) -> Iterator[Connection]:
        """As `write`, for statements alone, which need no objects of rows: the hot path of the
        queue.
        """
        with self._writer.begin() as connection:
            yield connection
            pass_kill_point("transaction-before-commit")
        self._tell_of_commit()

    def _tell_of_commit(self) -> None:
        pass_kill_point("transaction-after-commit")
        for listener in self._on_commit:
            listener()

    @contextmanager
    def look(self) -> Iterator[Connection]:
        """A connection for single statements that read: the hot path of the queue."""
        with self._looker.connect() as connection:
            yield connection

    @contextmanager
    def told_of_commits(self, listener: Callable[[], None]) -> Iterator[None]:
        """Call `listener` after each commit of `write` while the block runs, in the thread that has
        committed.
        """
        self._on_commit = [*self._on_commit, listener]
        try:
            yield
        finally:
            self._on_commit = [one for one in self._on_commit if one is not listener]

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
        return _sqlite_engine(parsed, pool_size)
    if parsed.get_backend_name() == "postgresql":
        return _postgresql_engine(parsed, pool_size)
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


def _create(url: URL, pool_size: int) -> Engine:
    return create_engine(
        url,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_timeout=60,
        # errors are logged: hashes of tokens and users' texts must not be in them
        hide_parameters=True,
    )


def _sqlite_engine(url: URL, pool_size: int) -> Engine:
    engine = _create(url, pool_size)
    is_file = bool(url.database) and url.database != ":memory:"
    turns = WriterTurns(Path(str(url.database)) if is_file else None)

    def begin(connection: Connection) -> None:
        statement = connection.get_execution_options().get("sqlite_begin", "BEGIN")
        if statement == "BEGIN IMMEDIATE" and not connection.info.get("has_turn"):
            if not turns.take(BUSY_TIMEOUT_MS / 1000):
                locked = sqlite3.OperationalError("database is locked")  # as SQLite says it
                raise OperationalError(statement, None, locked)
            connection.info["has_turn"] = True
        if statement:
            connection.exec_driver_sql(statement)

    def end_turn(_connection: Any, record: Any) -> None:
        if record.info.pop("has_turn", False):
            turns.end()

    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", begin)
    # the pool takes a connection back once its transaction has ended, either way
    event.listen(engine, "checkin", end_turn)
    event.listen(engine, "engine_disposed", lambda _engine: turns.close())
    return engine


def _without_transactions(engine: Engine) -> Engine:
    """The engine for single statements, which need no begin and no end around them."""
    if engine.dialect.name == "sqlite":
        return engine.execution_options(sqlite_begin="")
    return engine.execution_options(isolation_level="AUTOCOMMIT")


def _postgresql_engine(url: URL, pool_size: int) -> Engine:
    engine = _create(url, pool_size)

    def try_idle(connection: Any, record: Any, _proxy: Any) -> None:
        used_at = record.info.get("used_at")
        if used_at is None or time.monotonic() - used_at < IDLE_SECONDS:
            return
        try:
            engine.dialect.do_ping(connection)
        except engine.dialect.loaded_dbapi.Error as error:
            raise DisconnectionError from error

    def note_use(_connection: Any, record: Any) -> None:
        record.info["used_at"] = time.monotonic()

    event.listen(engine, "checkout", try_idle)
    event.listen(engine, "checkin", note_use)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = (
        None  # transactions are begun by the engine's listener, not by the driver
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
