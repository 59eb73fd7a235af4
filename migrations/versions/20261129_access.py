"""Tokens with scopes, secrets that can be rotated, and the audit log. Tables are frozen here.

Tokens of the first schema have neither checksum nor keyed hash and are deleted: agents enrol again,
with an enrolment token that is bound to their device.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "20261129_access"
down_revision = "20250601_first"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)
OF_AGENT = "kind = 'agent'"


def upgrade() -> None:
    op.drop_table("tokens")
    _create_tokens()
    op.create_table(
        "token_secrets",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("token_id", sa.String(length=32), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=True),
        sa.ForeignKeyConstraint(
            ["token_id"], ["tokens.id"], name="fk_token_secrets_token_id_tokens"
        ),
        sa.PrimaryKeyConstraint("digest", name="pk_token_secrets"),
    )
    op.create_index("ix_token_secrets_token_id", "token_secrets", ["token_id"])
    op.create_table(
        "server_keys",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("value", sa.String(length=128), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_server_keys"),
    )
    _create_audit()


def _create_tokens() -> None:
    op.create_table(
        "tokens",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("agent_id", sa.String(length=32), nullable=True),
        sa.Column("device", sa.String(length=80), nullable=True),
        sa.Column("registration_digest", sa.String(length=64), nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=True),
        sa.Column("revoked_at", INSTANT, nullable=True),
        sa.Column("last_used_at", INSTANT, nullable=True),
        sa.CheckConstraint("kind IN ('user', 'agent', 'enrolment')", name=op.f("ck_tokens_kind")),
        sa.CheckConstraint(
            "kind <> 'agent' OR agent_id IS NOT NULL", name=op.f("ck_tokens_agent_has_id")
        ),
        sa.CheckConstraint(
            "kind <> 'user' OR agent_id IS NULL", name=op.f("ck_tokens_user_is_no_agent")
        ),
        sa.ForeignKeyConstraint(["agent_id"], ["agents.id"], name="fk_tokens_agent_id_agents"),
        sa.PrimaryKeyConstraint("id", name="pk_tokens"),
    )
    op.create_index(
        "uq_tokens_agent",
        "tokens",
        ["agent_id"],
        unique=True,
        sqlite_where=sa.text(OF_AGENT),
        postgresql_where=sa.text(OF_AGENT),
    )


def _create_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("at", INSTANT, nullable=False),
        sa.Column("token_id", sa.String(length=32), nullable=False),
        sa.Column("token_name", sa.String(length=120), nullable=False),
        sa.Column("agent_id", sa.String(length=32), nullable=True),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("object_id", sa.String(length=128), nullable=True),
        sa.Column("request_id", sa.String(length=128), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_at", "audit", ["at"])


def downgrade() -> None:
    op.drop_table("audit")
    op.drop_table("server_keys")
    op.drop_table("token_secrets")
    op.drop_table("tokens")
    op.create_table(
        "tokens",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("agent_id", sa.String(length=32), nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=True),
        sa.CheckConstraint(
            "(role = 'agent') = (agent_id IS NOT NULL)", name=op.f("ck_tokens_agent_has_id")
        ),
        sa.CheckConstraint("role IN ('agent', 'enrolment')", name=op.f("ck_tokens_role")),
        sa.ForeignKeyConstraint(["agent_id"], ["agents.id"], name="fk_tokens_agent_id_agents"),
        sa.PrimaryKeyConstraint("sha256", name="pk_tokens"),
    )
