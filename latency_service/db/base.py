"""Base of all tables: names of constraints, time in UTC by the database's clock, identifiers."""

from __future__ import annotations

import secrets
import time
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, DateTime, Dialect, Float, MetaData, String, literal
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction
from sqlalchemy.types import TypeDecorator

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Base(DeclarativeBase):
    """Every table of the service derives from this."""

    metadata = MetaData(naming_convention=NAMING)


class UtcDateTime(TypeDecorator[datetime]):
    """An instant, always aware and in UTC, on both dialects."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a naive datetime cannot be stored: give it a time zone")
        moment = value.astimezone(UTC)
        return moment.replace(tzinfo=None) if dialect.name == "sqlite" else moment

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class utcnow(GenericFunction[datetime]):  # noqa: N801 - reads as the SQL function it is
    """The database's clock, `offset_seconds` from now; a number, or a parameter that brings it."""

    type = UtcDateTime()
    inherit_cache = True

    def __init__(self, offset_seconds: float | ColumnElement[float] = 0.0, **kwargs: Any) -> None:
        if not isinstance(offset_seconds, ColumnElement):
            offset_seconds = literal(float(offset_seconds), Float())
        super().__init__(offset_seconds, **kwargs)


@compiles(utcnow, "sqlite")
def _sqlite_utcnow(element: utcnow, compiler: SQLCompiler, **kwargs: Any) -> str:
    offset = compiler.process(element.clauses, **kwargs)
    # the trailing zeros make the text equal in form to what SQLAlchemy itself stores
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', {offset} || ' seconds')"


@compiles(utcnow, "postgresql")
def _postgresql_utcnow(element: utcnow, compiler: SQLCompiler, **kwargs: Any) -> str:
    offset = compiler.process(element.clauses, **kwargs)
    # not now(): that is the start of the transaction, which may have waited for a lock since
    return f"(statement_timestamp() + make_interval(secs => {offset}))"


class json_texts(GenericFunction[str]):  # noqa: N801 - reads as the SQL function it is
    """The texts of a JSON list, as the rows of a subquery."""

    type = String()
    inherit_cache = True


@compiles(json_texts, "sqlite")
def _sqlite_json_texts(element: json_texts, compiler: SQLCompiler, **kwargs: Any) -> str:
    return f"value FROM json_each({compiler.process(element.clauses, **kwargs)})"


@compiles(json_texts, "postgresql")
def _postgresql_json_texts(element: json_texts, compiler: SQLCompiler, **kwargs: Any) -> str:
    return f"json_array_elements_text({compiler.process(element.clauses, **kwargs)})"


def new_id() -> str:
    """A new identifier, 32 hex digits that sort roughly by time."""
    return f"{time.time_ns() // 1_000_000:012x}{secrets.token_hex(10)}"


def insert_unless_known(session: Session, row: Base) -> bool:
    """Insert a row; False when another transaction has just inserted the same one, which can be
    read then.
    """
    try:
        with session.begin_nested():
            session.add(row)
    except IntegrityError:
        return False
    return True
