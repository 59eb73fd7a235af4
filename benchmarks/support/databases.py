"""Databases of their own for benchmarks of the service: a SQLite file, and a PostgreSQL server from
a wheel that keeps what it has confirmed, as in operation.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

from tests.support.databases import migrate, postgres_server

Dialect = Literal["sqlite", "postgresql"]
DIALECTS: tuple[Dialect, ...] = get_args(Dialect)


@contextmanager
def migrated(dialect: Dialect) -> Iterator[str]:
    """Address of a new database with the schema of this version; it goes with the block."""
    if dialect == "sqlite":
        with tempfile.TemporaryDirectory(prefix="bench") as folder:
            url = f"sqlite:///{folder}/service.db"
            migrate(url)
            yield url
        return
    with postgres_server() as server:
        url = str(server.get_uri())
        migrate(url)
        yield url
