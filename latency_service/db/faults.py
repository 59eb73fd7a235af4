"""Why a database does not do what it is asked: in plain words, from its driver's errors."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass

from sqlalchemy.exc import (
    DBAPIError,
    DisconnectionError,
    InterfaceError,
    InternalError,
    OperationalError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from latency_service.core.errors import ServiceError

#: What PostgreSQL calls its classes of errors.
_DISK_FULL = "53100"
_TOO_MANY_CONNECTIONS = "53300"
_READ_ONLY = "25006"
_DEADLOCK = "40P01"
#: Class of errors about statements that are larger than PostgreSQL takes.
_OVER_A_LIMIT = "54"


@dataclass(frozen=True, kw_only=True)
class Fault:
    """A fault of the database that an operator can do something about."""

    code: str
    message: str
    cure: str


class DatabaseFault(ServiceError):
    """A fault of the database where no request is answered: in commands.

    Args:
        detail: the database, and what its driver said.
    """

    status = 503

    def __init__(self, fault: Fault, detail: str = "") -> None:
        message = f"{fault.message} ({detail})" if detail else fault.message
        super().__init__(message, fault.cure, code=fault.code)


FULL = Fault(
    code="database_full",
    message="The database cannot write: its disk is full.",
    cure="Free disk space where the database lies, then try again; no restart is needed.",
)
READ_ONLY = Fault(
    code="database_read_only",
    message="The database cannot be written: it is read-only.",
    cure="Give the service's user the right to write the database and its folder, or make the "
    "server writable, then try again; no restart is needed.",
)
BUSY = Fault(
    code="database_busy",
    message="The database is busy with other writers.",
    cure="Try again in a few seconds.",
)
UNREADABLE = Fault(
    code="database_unavailable",
    message="The database's file cannot be opened, read or written.",
    cure="See that its disk works and that the service may open more files (ulimit -n), then try "
    "again.",
)
UNAVAILABLE = Fault(
    code="database_unavailable",
    message="The database does not answer.",
    cure="See that LATENCY_SERVICE_DATABASE_URL is right and the database runs, then try again.",
)

#: Words of SQLite and of SQLAlchemy's pool, each with what they mean.
_WORDS = (
    ("database or disk is full", FULL),
    ("readonly database", READ_ONLY),
    ("database is locked", BUSY),
    ("database table is locked", BUSY),
    ("locking protocol", BUSY),
    ("unable to open database file", UNREADABLE),
    ("disk I/O error", UNREADABLE),
    ("QueuePool limit", BUSY),
)
_POSTGRESQL = {
    _DISK_FULL: FULL,
    _READ_ONLY: READ_ONLY,
    _TOO_MANY_CONNECTIONS: BUSY,
    _DEADLOCK: BUSY,
}


def fault_of(error: Exception) -> Fault | None:
    """What is wrong with a database that is away, busy, full or read-only, so that the same may
    succeed later; None for every other error, also one of the database's about a wrong statement.
    """
    match error:
        case DisconnectionError() | PoolTimeout():
            return describe_fault(error)
        case DBAPIError() if error.connection_invalidated:
            return describe_fault(error)
        case OperationalError() | InterfaceError() if not _may_be_of_statement(error.orig):
            return describe_fault(error)
        case OperationalError() | InternalError():
            return known_fault(error)
    return None


def _may_be_of_statement(cause: BaseException | None) -> bool:
    """SQLite has the same class of errors for a wrong statement as for a file that is locked."""
    state = getattr(cause, "sqlstate", None) or ""
    return isinstance(cause, sqlite3.Error) or state.startswith(_OVER_A_LIMIT)


def describe_fault(error: Exception) -> Fault:
    """What is wrong with the database that raised `error`, an error of SQLAlchemy's or of its
    driver's.
    """
    return known_fault(error) or UNAVAILABLE


def known_fault(error: Exception) -> Fault | None:
    """The same, None for an error that may be a fault of the service."""
    cause = getattr(error, "orig", None) or error
    state = getattr(cause, "sqlstate", None)
    if state is not None:
        return _POSTGRESQL.get(state)
    words = str(cause)
    return next((fault for text, fault in _WORDS if text in words), None)
