"""Repeats of a campaign's architectures on a second device of the class, and what they show."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "20261130_peers"
down_revision = "20261129_queue"
branch_labels = None
depends_on = None


def upgrade() -> None:
    repeats = sa.Column("peer_repeats", sa.Integer(), nullable=False, server_default="0")
    op.add_column("campaigns", repeats)
    op.create_table(
        "comparisons",
        sa.Column("target_id", sa.String(length=32), nullable=False),
        sa.Column("peer_target_id", sa.String(length=32), nullable=False),
        sa.Column("architectures", sa.Integer(), nullable=False),
        sa.Column("median_percent", sa.Double(), nullable=False),
        sa.Column("canary_percent", sa.JSON(), nullable=False),
        sa.Column("differs", sa.Boolean(), nullable=False),
        sa.Column("compared_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["target_id"], ["targets.id"], name="fk_comparisons_target_id_targets"
        ),
        sa.ForeignKeyConstraint(
            ["peer_target_id"], ["targets.id"], name="fk_comparisons_peer_target_id_targets"
        ),
        sa.PrimaryKeyConstraint("target_id", "peer_target_id", name="pk_comparisons"),
    )


def downgrade() -> None:
    op.drop_table("comparisons")
    op.drop_column("campaigns", "peer_repeats")
