"""Rows for the tables that later revisions have added, invented from their columns."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Engine,
    Float,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    select,
)
from sqlalchemy import inspect as inspected
from sqlalchemy.types import Numeric


def invent(engine: Engine) -> None:
    """Give each table without rows one row: no optional values, references to rows that exist, and
    values that its simple check constraints permit.

    A constraint that this cannot meet fails here, as an `IntegrityError` that names it: then give
    the table rows of its own, beside those of `tests.support.old_database`.
    """
    found = MetaData()
    found.reflect(engine)
    with engine.begin() as connection:
        for table in found.sorted_tables:
            if connection.execute(select(1).select_from(table).limit(1)).first() is None:
                permitted = _permitted(engine, table)
                values = {
                    column.name: permitted.get(column.name, _value(connection, column))
                    for column in table.columns
                    if not column.nullable
                }
                connection.execute(table.insert().values(values))


def _permitted(engine: Engine, table: Table) -> dict[str, Any]:
    """Values that check constraints of the forms ``column IN ('a', …)`` and ``column = 1`` name."""
    checks = " ".join(
        str(check["sqltext"]) for check in inspected(engine).get_check_constraints(table.name)
    )
    plain = re.sub(r"::[a-z ]+(\[\])?|[()]", " ", checks)
    words = re.findall(r"(\w+) +(?:IN|= *ANY *ARRAY *\[)[ \[]*'([^']+)'", plain)
    numbers = re.findall(r"(\w+) *= *(\d+)", plain)
    return {**dict(words), **{name: int(value) for name, value in numbers}}


def _value(connection: Any, column: Column[Any]) -> Any:
    for key in column.foreign_keys:
        return connection.scalar(select(key.column).limit(1))
    kinds: list[tuple[type[Any], Any]] = [
        (Boolean, True),
        (Integer, 1),
        (Numeric, 1.5),
        (Float, 1.5),
        (LargeBinary, b"bytes"),
        (JSON, {"some": ["json"]}),
    ]
    if isinstance(column.type, DateTime):
        moment = datetime(2025, 6, 3, tzinfo=UTC)
        return moment if column.type.timezone else moment.replace(tzinfo=None)
    return next(
        (value for kind, value in kinds if isinstance(column.type, kind)),
        "a" * min(8, getattr(column.type, "length", None) or 8),
    )
