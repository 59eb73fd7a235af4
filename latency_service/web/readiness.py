"""Whether the service can do its work: the database answers, is migrated and can be written."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from latency_service.core.errors import ServiceError
from latency_service.db.engine import Database
from latency_service.db.faults import BUSY, FULL, Fault, describe_fault, known_fault
from latency_service.db.migrate import check_migrated

#: How long a finding stands, so that whoever asks often costs little.
FRESH_SECONDS = 1.5
#: Free space below which the disk counts as full: less than an upload or a large result.
MIN_FREE_BYTES = 8 << 20
#: Writes one row back as it is. A read-only database refuses it.
_WRITE = text("UPDATE alembic_version SET version_num = version_num")
#: Statements that have PostgreSQL write `MIN_FREE_BYTES` to a temporary file on the disk of its
#: tables, and delete it. That takes about 5 ms: it leaves no row, no dead row and nothing in the
#: write-ahead log.
_FILL = (
    text("SET LOCAL work_mem = '64kB'"),
    text("SET LOCAL temp_tablespaces = ''"),
    text(
        "WITH room AS MATERIALIZED (SELECT repeat('x', 8192) FROM generate_series(1, :pages)) "
        "SELECT count(*) FROM room"
    ).bindparams(pages=MIN_FREE_BYTES // 8192),
)


@dataclass(frozen=True, kw_only=True)
class Obstacle:
    """Why the service is not ready."""

    code: str
    message: str
    cure: str


class Readiness:
    """The last finding, and a new one when it is too old. Thread-safe: while one thread looks, the
    others are told the last finding.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database = database
        self._clock = clock
        self._lock = Lock()
        self._found_at: float | None = None
        self._obstacle: Obstacle | None = None

    def obstacle(self) -> Obstacle | None:
        """What keeps the service from its work, None when it is ready."""
        if not self._is_fresh() and self._lock.acquire(blocking=self._found_at is None):
            try:
                self._look()
            finally:
                self._lock.release()
        return self._obstacle

    def _is_fresh(self) -> bool:
        return self._found_at is not None and self._clock() - self._found_at <= FRESH_SECONDS

    def _look(self) -> None:
        if not self._is_fresh():
            self._obstacle = look(self._database)
            self._found_at = self._clock()


def look(database: Database) -> Obstacle | None:
    """Try what every request needs. A database that another writer holds is ready.

    A full disk may leave room for one row in files that have grown before, so its free space is
    looked at too.
    """
    try:
        check_migrated(database.engine)
        with database.write() as session:
            session.execute(_WRITE)
        if _is_disk_full(database):
            return _obstacle(FULL)
    except ServiceError as error:
        return Obstacle(code=error.code, message=error.message, cure=error.cure)
    except SQLAlchemyError as error:
        fault = describe_fault(error)
        if fault is BUSY:
            return None
        return _obstacle(fault)
    return None


def _obstacle(fault: Fault) -> Obstacle:
    return Obstacle(code=fault.code, message=fault.message, cure=fault.cure)


def _is_disk_full(database: Database) -> bool:
    """Whether the disk of the database lacks room to grow."""
    if database.dialect == "postgresql":
        return _is_disk_of_postgresql_full(database)
    file = database.engine.url.database
    return file is not None and shutil.disk_usage(Path(file).parent).free < MIN_FREE_BYTES


def _is_disk_of_postgresql_full(database: Database) -> bool:
    """Whether a large temporary file does not fit. One that the server refuses for another reason,
    such as a limit on temporary files, tells nothing.
    """
    try:
        with database.read() as session:
            for statement in _FILL:
                session.execute(statement)
    except DBAPIError as error:
        return known_fault(error) is FULL
    return False
