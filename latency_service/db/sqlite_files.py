"""Whole SQLite databases as files, by SQLite's online backup."""

from __future__ import annotations

import errno
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import cast

from sqlalchemy import Engine

from latency_service.core.errors import BadRequest, ServiceError
from latency_service.db.faults import FULL, DatabaseFault, known_fault


def dump(engine: Engine, path: Path) -> None:
    """Copy the database, as it is at one instant, to the new file `path`; writers go on meanwhile.

    Raises:
        BadRequest: the database is damaged (code `damaged_database`).
        DatabaseFault: the database's file cannot be opened or read.
        OSError: the disk of the copy is full.
    """
    with closing(sqlite3.connect(path)) as target:
        _copy(engine, target, into_engine=False)
        # one file, without a write-ahead log beside it
        target.execute("PRAGMA journal_mode = DELETE")
        _check(target, "The database")


def load(engine: Engine, path: Path) -> None:
    """Replace the database's content by that of the file `path`, in one transaction.

    Raises:
        BadRequest: the file is damaged (code `damaged_database`); nothing is changed.
        DatabaseFault: the database's disk is full, or its file cannot be opened or written; nothing
            is changed.
    """
    with closing(sqlite3.connect(path)) as source:
        _check(source, "The backup")
        _copy(engine, source, into_engine=True)


def _copy(engine: Engine, other: sqlite3.Connection, *, into_engine: bool) -> None:
    pooled = engine.raw_connection()
    try:
        own = cast(sqlite3.Connection, pooled.driver_connection)
        source, target = (other, own) if into_engine else (own, other)
        source.backup(target)
    except sqlite3.DatabaseError as error:
        if known_fault(error) is FULL and not into_engine:  # the disk of the copy
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
        raise _refusal("The database", error) from error
    finally:
        pooled.close()


def _check(connection: sqlite3.Connection, what: str) -> None:
    try:
        found = [row[0] for row in connection.execute("PRAGMA integrity_check(3)")]
    except sqlite3.DatabaseError as error:
        raise _refusal(what, error) from error
    if found != ["ok"]:
        raise _damaged(what, "; ".join(found))


def _refusal(what: str, error: sqlite3.DatabaseError) -> ServiceError:
    """A full disk, or a file that cannot be opened or written, is no damage."""
    fault = known_fault(error)
    return _damaged(what, str(error)) if fault is None else DatabaseFault(fault)


def _damaged(what: str, why: str) -> BadRequest:
    return BadRequest(
        f"{what} is damaged: {why}.",
        "Restore an older backup, or repair the file: https://sqlite.org/recovery.html.",
        code="damaged_database",
    )
