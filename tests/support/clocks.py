"""A database's clock that a test sets: the one that `db.base.utcnow` asks for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import event

from latency_service.db.engine import Database

# a function of this name in a schema that is searched before PostgreSQL's own
_OWN_CLOCK = """
CREATE SCHEMA own_clock;
CREATE TABLE own_clock.shift (seconds double precision NOT NULL);
INSERT INTO own_clock.shift VALUES (0);
CREATE FUNCTION own_clock.statement_timestamp() RETURNS timestamptz LANGUAGE sql AS
'SELECT pg_catalog.statement_timestamp() + make_interval(secs => seconds) FROM own_clock.shift';
"""


class DatabaseClock:
    """The clock of a database while a test runs. Undone by `restore`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seconds = 0.0
        if database.dialect == "postgresql":
            self._execute(_OWN_CLOCK)
        event.listen(database.engine, "checkout", self._prepare)

    def set_forward(self, seconds: float) -> None:
        """Let the clock jump by so many seconds; back when they are negative."""
        self._seconds += seconds
        if self._database.dialect == "postgresql":
            self._execute("UPDATE own_clock.shift SET seconds = %s", self._seconds)

    def restore(self) -> None:
        event.remove(self._database.engine, "checkout", self._prepare)
        self._seconds = 0.0
        if self._database.dialect == "postgresql":
            self._execute("DROP SCHEMA own_clock CASCADE")

    def _prepare(self, connection: Any, record: Any, _proxy: Any) -> None:
        if record.info.get("clock") is self:
            return
        record.info["clock"] = self
        if self._database.dialect == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SET search_path = own_clock, pg_catalog, public")
            connection.commit()
        else:
            connection.create_function("strftime", 3, self._strftime)

    def _strftime(self, form: str, moment: str, offset: str) -> str:
        assert moment == "now"
        seconds = self._seconds + float(offset.removesuffix(" seconds"))
        instant = datetime.now(UTC) + timedelta(seconds=seconds)
        text = f"{instant:%Y-%m-%d %H:%M:%S}.{instant.microsecond // 1000:03d}000"
        assert form == "%Y-%m-%d %H:%M:%f000"
        return text

    def _execute(self, statements: str, *parameters: float) -> None:
        with self._database.engine.begin() as connection:
            connection.exec_driver_sql(statements, parameters or None)
