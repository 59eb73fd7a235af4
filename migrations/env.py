"""Alembic's environment: one chain for SQLite and PostgreSQL, on the connection that the caller
gives.
"""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, Engine, text

from latency_service.db.tables import Base

#: Any constant: replicas that migrate at the same time wait for each other.
LOCK_KEY = 7_283_110


def run(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        suspend_foreign_keys(connection)
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        transactional_ddl=True,
        compare_type=True,
    )
    with context.begin_transaction():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})
        context.run_migrations()
        if connection.dialect.name == "sqlite":
            check_foreign_keys(connection)


def suspend_foreign_keys(connection: Connection) -> None:
    """Batch operations replace a table by a copy; the rows that refer to it must not object. The
    setting has no effect within a transaction, so this comes first.
    """
    driver_connection = connection.connection.driver_connection
    assert driver_connection is not None
    driver_connection.execute("PRAGMA foreign_keys = OFF")


def check_foreign_keys(connection: Connection) -> None:
    """Roll the migration back if it has left a reference to a row that is gone."""
    broken = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
    if broken:
        raise RuntimeError(f"the migration would break references, so nothing is changed: {broken}")


given = context.config.attributes["connection"]
if isinstance(given, Engine):
    with given.connect() as own:
        run(own)
else:
    run(given)
