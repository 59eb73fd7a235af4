"""Sessions of browsers, codes for signing in, and indexes of what pages list."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "20261129_dashboard"
down_revision = "20261129_operations"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)
FAILED = "state = 'failed'"


def upgrade() -> None:
    op.create_table(
        "web_sessions",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("token_reference", sa.String(length=80), nullable=False),
        sa.Column("csrf", sa.String(length=64), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_web_sessions"),
    )
    op.create_index("ix_web_sessions_expires_at", "web_sessions", ["expires_at"])
    op.create_table(
        "sign_in_codes",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("token_reference", sa.String(length=80), nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_sign_in_codes"),
    )
    op.create_index("ix_sign_in_codes_expires_at", "sign_in_codes", ["expires_at"])

    op.drop_index("ix_measurements_campaign_id", "measurements")
    op.create_index("ix_measurements_campaign_id_id", "measurements", ["campaign_id", "id"])
    op.create_index("ix_measurements_target_id_id", "measurements", ["target_id", "id"])
    op.create_index("ix_measurements_verdict_id", "measurements", ["verdict", "id"])
    op.create_index("ix_jobs_state_id", "jobs", ["state", "id"])
    op.create_index(
        "ix_jobs_failed",
        "jobs",
        ["finished_at"],
        sqlite_where=sa.text(FAILED),
        postgresql_where=sa.text(FAILED),
    )
    op.create_index("ix_attempts_agent_id_leased_at", "attempts", ["agent_id", "leased_at"])


def downgrade() -> None:
    op.drop_index("ix_attempts_agent_id_leased_at", "attempts")
    op.drop_index("ix_jobs_failed", "jobs")
    op.drop_index("ix_jobs_state_id", "jobs")
    op.drop_index("ix_measurements_verdict_id", "measurements")
    op.drop_index("ix_measurements_target_id_id", "measurements")
    op.drop_index("ix_measurements_campaign_id_id", "measurements")
    op.create_index("ix_measurements_campaign_id", "measurements", ["campaign_id"])

    op.drop_table("sign_in_codes")
    op.drop_table("web_sessions")
