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


given = context.config.attributes["connection"]
if isinstance(given, Engine):
    with given.connect() as own:
        run(own)
else:
    run(given)
