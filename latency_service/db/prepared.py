"""Statements of the queue's hot path on PostgreSQL, compiled once."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from sqlalchemy import URL, ClauseElement, Connection, CursorResult
from sqlalchemy.sql.compiler import SQLCompiler

_DIALECT = URL.create("postgresql+psycopg").get_dialect()


class Prepared:
    """A statement for PostgreSQL that is compiled before its first execution and never again.

    SQLAlchemy caches compiled statements too, but walks through the whole statement each time to
    find it in the cache, which takes longer than everything else that a claim does in the client.
    Values go to the driver and come from it as they are: for columns that it encodes and decodes by
    itself.
    """

    def __init__(self, statement: ClauseElement) -> None:
        self._statement = statement

    def execute(
        self, connection: Connection, parameters: Mapping[str, Any]
    ) -> CursorResult[*tuple[Any, ...]]:
        """Execute it with values for its named parameters."""
        values = {**self._constants, **parameters}
        return connection.exec_driver_sql(self._text, values)

    @cached_property
    def _compiled(self) -> SQLCompiler:
        compiled = self._statement.compile(dialect=_DIALECT())
        assert isinstance(compiled, SQLCompiler)
        return compiled

    @cached_property
    def _text(self) -> str:
        return str(self._compiled)

    @cached_property
    def _constants(self) -> Mapping[str, Any]:
        """Values of parameters that are part of the statement."""
        every = self._compiled.binds.items()
        return {name: one.effective_value for name, one in every if not one.required}
