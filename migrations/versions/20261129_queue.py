"""Attempts that died with their agent are counted apart, and PostgreSQL tells of queued jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "20261129_queue"
down_revision = "20261129_live_runs"
branch_labels = None
depends_on = None

# whoever waits for work of a device listens; the notification comes with the commit
FUNCTION = """
CREATE FUNCTION notify_of_queued_job() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('latency_service_queued', NEW.device_id);
    RETURN NULL;
END
$$
"""
TRIGGER = """
CREATE TRIGGER tr_jobs_queued AFTER INSERT OR UPDATE OF state ON jobs FOR EACH ROW
WHEN (NEW.state = 'queued' AND NEW.device_id IS NOT NULL)
EXECUTE FUNCTION notify_of_queued_job()
"""


QUEUED = "state = 'queued'"
OLD_ORDER = ["device_id", "kind", "priority", "created_at", "position"]
# a claim reads the head of the index only when all of its order is in it
NEW_ORDER = ["device_id", "priority", "created_at", "position", "id"]


def upgrade() -> None:
    _replace_index(NEW_ORDER)
    lost = sa.Column("attempts_lost", sa.Integer(), nullable=False, server_default="0")
    op.add_column("jobs", lost)
    if op.get_bind().dialect.name == "postgresql":
        op.execute(FUNCTION)
        op.execute(TRIGGER)


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP TRIGGER tr_jobs_queued ON jobs")
        op.execute("DROP FUNCTION notify_of_queued_job()")
    # not in batch mode: SQLite would have to make the table anew, to which others refer
    op.drop_column("jobs", "attempts_lost")
    _replace_index(OLD_ORDER)


def _replace_index(columns: list[str]) -> None:
    op.drop_index("ix_jobs_queue", table_name="jobs")
    waiting = sa.text(QUEUED)
    op.create_index(
        "ix_jobs_queue", "jobs", columns, sqlite_where=waiting, postgresql_where=waiting
    )
