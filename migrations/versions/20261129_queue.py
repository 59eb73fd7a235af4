"""Attempts that died with their agent are counted apart, and PostgreSQL tells of queued jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "20261129_queue"
down_revision = "20250601_first"
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


def upgrade() -> None:
    with op.batch_alter_table("jobs") as jobs:
        jobs.add_column(
            sa.Column("attempts_lost", sa.Integer(), nullable=False, server_default="0")
        )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(FUNCTION)
        op.execute(TRIGGER)


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP TRIGGER tr_jobs_queued ON jobs")
        op.execute("DROP FUNCTION notify_of_queued_job()")
    with op.batch_alter_table("jobs") as jobs:
        jobs.drop_column("attempts_lost")
