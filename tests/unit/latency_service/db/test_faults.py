"""Errors of the databases' drivers in plain words."""

from __future__ import annotations

import sqlite3

import psycopg
import pytest
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    DisconnectionError,
    InterfaceError,
    InternalError,
    OperationalError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout

from latency_service.db.faults import (
    BUSY,
    FULL,
    READ_ONLY,
    UNAVAILABLE,
    UNREADABLE,
    Fault,
    describe_fault,
    fault_of,
    known_fault,
)


@pytest.mark.parametrize(
    ("cause", "fault"),
    [
        (sqlite3.OperationalError("database or disk is full"), FULL),
        (sqlite3.OperationalError("attempt to write a readonly database"), READ_ONLY),
        (sqlite3.OperationalError("database is locked"), BUSY),
        (sqlite3.OperationalError("unable to open database file"), UNREADABLE),
        (sqlite3.OperationalError("disk I/O error"), UNREADABLE),
        (psycopg.errors.DiskFull("could not extend file"), FULL),
        (psycopg.errors.ReadOnlySqlTransaction("cannot execute UPDATE"), READ_ONLY),
        (psycopg.errors.TooManyConnections("sorry, too many clients already"), BUSY),
        (psycopg.errors.DeadlockDetected("deadlock detected"), BUSY),
        (psycopg.OperationalError("connection refused"), UNAVAILABLE),
        (psycopg.errors.AdminShutdown("database is locked, it says"), UNAVAILABLE),
    ],
    ids=lambda value: str(value)[:40],
)
def test_each_error_has_its_words(cause: Exception, fault: Fault) -> None:
    found = describe_fault(OperationalError("SELECT 1", {}, cause))
    assert found is fault
    assert found.message.endswith(".")
    assert found.cure.endswith(".")


def test_an_exhausted_pool_is_busy() -> None:
    assert describe_fault(PoolTimeout("QueuePool limit of size 10 overflow 10 reached")) is BUSY


def test_a_fault_of_the_service_is_none_of_the_database() -> None:
    cause = psycopg.errors.InFailedSqlTransaction("current transaction is aborted")
    assert known_fault(OperationalError("SELECT 1", {}, cause)) is None


def wrapped(kind: type[DBAPIError], cause: Exception) -> DBAPIError:
    return kind("SELECT 1", {}, cause)


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (wrapped(OperationalError, psycopg.OperationalError("connection refused")), UNAVAILABLE),
        (wrapped(OperationalError, psycopg.errors.AdminShutdown("terminating")), UNAVAILABLE),
        (wrapped(OperationalError, psycopg.errors.CannotConnectNow("starting up")), UNAVAILABLE),
        (wrapped(OperationalError, psycopg.errors.DiskFull("could not extend file")), FULL),
        (wrapped(InterfaceError, psycopg.InterfaceError("connection is closed")), UNAVAILABLE),
        (wrapped(InternalError, psycopg.errors.ReadOnlySqlTransaction("read-only")), READ_ONLY),
        (
            DBAPIError("SELECT 1", {}, psycopg.DatabaseError("cut"), connection_invalidated=True),
            UNAVAILABLE,
        ),
        (wrapped(OperationalError, sqlite3.OperationalError("database is locked")), BUSY),
        (wrapped(OperationalError, sqlite3.OperationalError("database or disk is full")), FULL),
        (PoolTimeout("QueuePool limit of size 10 overflow 10 reached"), BUSY),
        (DisconnectionError(), UNAVAILABLE),
        (wrapped(OperationalError, sqlite3.OperationalError("no such column: x")), None),
        (wrapped(InterfaceError, sqlite3.InterfaceError("Error binding parameter 0")), None),
        (wrapped(OperationalError, psycopg.errors.StatementTooComplex("too complex")), None),
        (wrapped(InternalError, psycopg.errors.InFailedSqlTransaction("is aborted")), None),
        (wrapped(ProgrammingError, psycopg.errors.UndefinedTable("no such table")), None),
        (wrapped(DataError, psycopg.errors.NumericValueOutOfRange("out of range")), None),
        (ValueError("database is locked"), None),
    ],
    ids=str,
)
def test_faults_that_may_pass_are_told_from_other_errors(
    error: Exception, fault: Fault | None
) -> None:
    assert fault_of(error) is fault
