"""Databases of a chaos run: each can be restarted while the service works on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psycopg

from benchmarks.support.databases import Dialect
from tests.support.databases import migrate, postgres_server, stopped


class ChaosDatabase(Protocol):
    """A migrated database."""

    url: str
    #: Whether a restart ends the processes of the service, because the database lives in them.
    lives_in_service: bool

    def restart(self) -> None:
        """Stop the database at once, without a checkpoint, and start it again."""


@dataclass(kw_only=True)
class SqliteFile:
    """A file; its restart is that of every process that uses it."""

    url: str
    lives_in_service: bool = True

    def restart(self) -> None:
        """Nothing is left to restart once the processes are gone."""


@dataclass(kw_only=True)
class PostgresServer:
    """A server of its own."""

    server: Any
    url: str
    lives_in_service: bool = False

    def restart(self) -> None:
        with stopped(self.server):
            pass


@contextmanager
def opened(dialect: Dialect, folder: Path) -> Iterator[ChaosDatabase]:
    """A new migrated database; it is gone afterwards, or with `folder`."""
    if dialect == "sqlite":
        url = f"sqlite:///{folder / 'service.db'}"
        migrate(url)
        yield SqliteFile(url=url)
        return
    with postgres_server() as server:
        with psycopg.connect(server.get_uri(), autocommit=True) as connection:
            connection.execute("CREATE DATABASE chaos")
        url = server.get_uri(database="chaos")
        migrate(url)
        yield PostgresServer(server=server, url=url)
