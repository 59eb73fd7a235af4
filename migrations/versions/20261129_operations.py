"""Quarantine and import of devices, retention of raw rounds, and an identity of the database."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "20261129_operations"
down_revision = "20261129_access"
branch_labels = None
depends_on = None

ROUNDS_KEPT = "rounds_kept"
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("devices", sa.Column("quarantined_at", INSTANT, nullable=True))
    op.add_column("devices", sa.Column("quarantine_reason", sa.Text(), nullable=True))
    op.add_column("devices", sa.Column("quarantine_target_id", sa.String(length=32), nullable=True))
    op.add_column("devices", sa.Column("imported_from", sa.String(length=32), nullable=True))
    op.add_column(
        "measurements",
        sa.Column(ROUNDS_KEPT, sa.Boolean(), nullable=False, server_default=sa.true()),
    )
    op.create_index(
        "ix_measurements_rounds_kept",
        "measurements",
        ["created_at"],
        sqlite_where=sa.text(ROUNDS_KEPT),
        postgresql_where=sa.text(ROUNDS_KEPT),
    )
    op.create_table(
        "database_identity",
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.CheckConstraint("number = 1", name=op.f("ck_database_identity_only_one")),
        sa.PrimaryKeyConstraint("number", name="pk_database_identity"),
    )


def downgrade() -> None:
    op.drop_table("database_identity")
    op.drop_index("ix_measurements_rounds_kept", table_name="measurements")
    op.drop_column("measurements", ROUNDS_KEPT)
    for column in (
        "imported_from",
        "quarantine_target_id",
        "quarantine_reason",
        "quarantined_at",
    ):
        op.drop_column("devices", column)
