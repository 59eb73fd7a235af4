"""The first schema. Tables are frozen here: never import the models; what each index and constraint
is for stands beside the models.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "20250601_first"
down_revision = None
branch_labels = None
depends_on = None

OPEN = "state = 'open'"
QUEUED = "state = 'queued'"
CURRENT = "is_current"
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "devices",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("last_seen_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_devices"),
        sa.UniqueConstraint("name", name="uq_devices_name"),
    )
    op.create_table(
        "models",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size_bytes", sa.BigInteger(), nullable=False),
        sa.Column("opset", sa.Integer(), nullable=False),
        sa.Column("uploads", sa.Integer(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("blob", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name="pk_models"),
    )
    op.create_table(
        "spaces",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("groups", sa.JSON(), nullable=False),
        sa.Column("opset", sa.Integer(), nullable=False),
        sa.Column("inputs", sa.JSON(), nullable=False),
        sa.Column("size_bytes", sa.Integer(), nullable=False),
        sa.Column("parameters", sa.BigInteger(), nullable=False),
        sa.Column("macs", sa.BigInteger(), nullable=False),
        sa.Column("is_probe", sa.Boolean(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("blob", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_spaces"),
    )
    op.create_table(
        "agents",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("device_id", sa.String(length=32), nullable=True),
        sa.Column("agent_version", sa.String(), nullable=False),
        sa.Column("runtime_version", sa.String(), nullable=False),
        sa.Column("max_opset", sa.Integer(), nullable=False),
        sa.Column("providers", sa.JSON(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("load", sa.Double(), nullable=True),
        sa.Column("temperature_c", sa.Double(), nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("last_seen_at", INSTANT, nullable=False),
        sa.CheckConstraint(
            "(kind = 'trainer') = (device_id IS NULL)", name=op.f("ck_agents_device_unless_trainer")
        ),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], name="fk_agents_device_id_devices"),
        sa.PrimaryKeyConstraint("id", name="pk_agents"),
    )
    op.create_index("ix_agents_device_id", "agents", ["device_id"])

    op.create_table(
        "targets",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("device_id", sa.String(length=32), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("runtime_key", sa.String(), nullable=False),
        sa.Column("runtime", sa.JSON(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("context", sa.JSON(), nullable=False),
        sa.Column("canaries", sa.JSON(), nullable=False),
        sa.Column("canary_ms", sa.JSON(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("is_current", sa.Boolean(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], name="fk_targets_device_id_devices"),
        sa.PrimaryKeyConstraint("id", name="pk_targets"),
        sa.UniqueConstraint(
            "device_id",
            "fingerprint",
            "generation",
            name="uq_targets_device_id_fingerprint_generation",
        ),
    )
    op.create_index(
        "uq_targets_current",
        "targets",
        ["device_id", "runtime_key"],
        unique=True,
        sqlite_where=sa.text(CURRENT),
        postgresql_where=sa.text(CURRENT),
    )

    op.create_table(
        "lattices",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("target_id", sa.String(length=32), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("lattice", sa.JSON(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["target_id"], ["targets.id"], name="fk_lattices_target_id_targets"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_lattices"),
        sa.UniqueConstraint("target_id", "version", name="uq_lattices_target_id_version"),
    )
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
    op.create_table(
        "campaigns",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("space_id", sa.String(length=64), nullable=False),
        sa.Column("device_id", sa.String(length=32), nullable=False),
        sa.Column("runtime_key", sa.String(), nullable=False),
        sa.Column("runtime", sa.JSON(), nullable=False),
        sa.Column("purpose", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("phase", sa.String(length=16), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("repeats", sa.Integer(), nullable=False),
        sa.Column("widths", sa.JSON(), nullable=True),
        sa.Column("batch_size", sa.Integer(), nullable=False),
        sa.Column("protocol", sa.JSON(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("repair", sa.Boolean(), nullable=False),
        sa.Column("goal_percent", sa.Double(), nullable=True),
        sa.Column("at_most_seconds", sa.Double(), nullable=True),
        sa.Column("around", sa.JSON(), nullable=True),
        sa.Column("lattice_id", sa.String(length=32), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("finished_at", INSTANT, nullable=True),
        sa.CheckConstraint(
            "phase IN ('lattice', 'measuring', 'training', 'done')", name=op.f("ck_campaigns_phase")
        ),
        sa.CheckConstraint(
            "purpose IN ('predictor', 'measure')", name=op.f("ck_campaigns_purpose")
        ),
        sa.CheckConstraint(
            "state IN ('running', 'done', 'failed', 'cancelled')", name=op.f("ck_campaigns_state")
        ),
        sa.ForeignKeyConstraint(
            ["device_id"], ["devices.id"], name="fk_campaigns_device_id_devices"
        ),
        sa.ForeignKeyConstraint(
            ["lattice_id"], ["lattices.id"], name="fk_campaigns_lattice_id_lattices"
        ),
        sa.ForeignKeyConstraint(["space_id"], ["spaces.id"], name="fk_campaigns_space_id_spaces"),
        sa.PrimaryKeyConstraint("id", name="pk_campaigns"),
    )
    op.create_index(
        "ix_campaigns_device_id_runtime_key_state",
        "campaigns",
        ["device_id", "runtime_key", "state"],
    )

    op.create_table(
        "jobs",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("device_id", sa.String(length=32), nullable=True),
        sa.Column("campaign_id", sa.String(length=32), nullable=True),
        sa.Column("stage", sa.String(length=16), nullable=True),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("space_id", sa.String(length=64), nullable=True),
        sa.Column("model_sha256", sa.String(length=64), nullable=True),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("opset", sa.Integer(), nullable=False),
        sa.Column("runtime", sa.JSON(), nullable=False),
        sa.Column("protocol", sa.JSON(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("architectures", sa.JSON(), nullable=False),
        sa.Column("target_id", sa.String(length=32), nullable=True),
        sa.Column("lattice_id", sa.String(length=32), nullable=True),
        sa.Column("attempts_used", sa.Integer(), nullable=False),
        sa.Column("failure_kind", sa.String(length=32), nullable=True),
        sa.Column("failure_message", sa.Text(), nullable=True),
        sa.Column("failure_log", sa.Text(), nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("finished_at", INSTANT, nullable=True),
        sa.CheckConstraint(
            "(kind = 'train') = (device_id IS NULL)", name=op.f("ck_jobs_device_unless_train")
        ),
        sa.CheckConstraint("kind IN ('measure', 'verify', 'train')", name=op.f("ck_jobs_kind")),
        sa.CheckConstraint(
            "state IN ('queued', 'leased', 'done', 'failed', 'cancelled')",
            name=op.f("ck_jobs_state"),
        ),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaigns.id"], name="fk_jobs_campaign_id_campaigns"
        ),
        sa.ForeignKeyConstraint(["device_id"], ["devices.id"], name="fk_jobs_device_id_devices"),
        sa.ForeignKeyConstraint(
            ["lattice_id"], ["lattices.id"], name="fk_jobs_lattice_id_lattices"
        ),
        sa.ForeignKeyConstraint(["space_id"], ["spaces.id"], name="fk_jobs_space_id_spaces"),
        sa.ForeignKeyConstraint(["target_id"], ["targets.id"], name="fk_jobs_target_id_targets"),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
    )
    op.create_index("ix_jobs_campaign_id_stage_state", "jobs", ["campaign_id", "stage", "state"])
    op.create_index("ix_jobs_model_sha256", "jobs", ["model_sha256"])
    op.create_index(
        "ix_jobs_queue",
        "jobs",
        ["device_id", "kind", "priority", "created_at", "position"],
        sqlite_where=sa.text(QUEUED),
        postgresql_where=sa.text(QUEUED),
    )

    op.create_table(
        "attempts",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("agent_id", sa.String(length=32), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("leased_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT, nullable=False),
        sa.Column("finished_at", INSTANT, nullable=True),
        sa.Column("digest", sa.String(length=64), nullable=True),
        sa.Column("wall_seconds", sa.Double(), nullable=True),
        sa.Column("timed_seconds", sa.Double(), nullable=True),
        sa.Column("failure_kind", sa.String(length=32), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("log_tail", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "state IN ('open', 'done', 'late', 'superseded', 'failed', 'expired', 'cancelled')",
            name=op.f("ck_attempts_state"),
        ),
        sa.ForeignKeyConstraint(["agent_id"], ["agents.id"], name="fk_attempts_agent_id_agents"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_attempts_job_id_jobs"),
        sa.PrimaryKeyConstraint("id", name="pk_attempts"),
        sa.UniqueConstraint("job_id", "number", name="uq_attempts_job_id_number"),
    )
    op.create_index(
        "ix_attempts_expiry",
        "attempts",
        ["expires_at"],
        sqlite_where=sa.text(OPEN),
        postgresql_where=sa.text(OPEN),
    )
    op.create_index(
        "uq_attempts_open_agent",
        "attempts",
        ["agent_id"],
        unique=True,
        sqlite_where=sa.text(OPEN),
        postgresql_where=sa.text(OPEN),
    )
    op.create_index(
        "uq_attempts_open_job",
        "attempts",
        ["job_id"],
        unique=True,
        sqlite_where=sa.text(OPEN),
        postgresql_where=sa.text(OPEN),
    )

    op.create_table(
        "predictors",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("space_id", sa.String(length=64), nullable=False),
        sa.Column("target_id", sa.String(length=32), nullable=False),
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("artifact_sha256", sa.String(length=64), nullable=False),
        sa.Column("sidecar", sa.JSON(), nullable=False),
        sa.Column("measurement_ids", sa.JSON(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("artifact", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_predictors_job_id_jobs"),
        sa.ForeignKeyConstraint(["space_id"], ["spaces.id"], name="fk_predictors_space_id_spaces"),
        sa.ForeignKeyConstraint(
            ["target_id"], ["targets.id"], name="fk_predictors_target_id_targets"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_predictors"),
        sa.UniqueConstraint("job_id", name="uq_predictors_job_id"),
        sa.UniqueConstraint(
            "space_id", "target_id", "version", name="uq_predictors_space_id_target_id_version"
        ),
    )
    op.create_table(
        "measurements",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("space_id", sa.String(length=64), nullable=False),
        sa.Column("target_id", sa.String(length=32), nullable=False),
        sa.Column("campaign_id", sa.String(length=32), nullable=True),
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.Column("attempt_id", sa.String(length=32), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("widths", sa.JSON(), nullable=True),
        sa.Column("model_sha256", sa.String(length=64), nullable=True),
        sa.Column("counted", sa.Boolean(), nullable=False),
        sa.Column("latency_ms", sa.Double(), nullable=False),
        sa.Column("lower_ms", sa.Double(), nullable=False),
        sa.Column("upper_ms", sa.Double(), nullable=False),
        sa.Column("naive_ms", sa.Double(), nullable=False),
        sa.Column("reference_ms", sa.Double(), nullable=True),
        sa.Column("reference_elasticity", sa.Double(), nullable=True),
        sa.Column("verdict", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("trainable", sa.Boolean(), nullable=False),
        sa.Column("quiet_share", sa.Double(), nullable=False),
        sa.Column("quarantined_share", sa.Double(), nullable=False),
        sa.Column("rounds_used", sa.Integer(), nullable=False),
        sa.Column("stopped", sa.String(length=16), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("calibration", sa.JSON(), nullable=False),
        sa.Column("rounds", sa.JSON(), nullable=False),
        sa.CheckConstraint("verdict IN ('ok', 'unstable')", name=op.f("ck_measurements_verdict")),
        sa.ForeignKeyConstraint(
            ["attempt_id"], ["attempts.id"], name="fk_measurements_attempt_id_attempts"
        ),
        sa.ForeignKeyConstraint(
            ["campaign_id"], ["campaigns.id"], name="fk_measurements_campaign_id_campaigns"
        ),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_measurements_job_id_jobs"),
        sa.ForeignKeyConstraint(
            ["space_id"], ["spaces.id"], name="fk_measurements_space_id_spaces"
        ),
        sa.ForeignKeyConstraint(
            ["target_id"], ["targets.id"], name="fk_measurements_target_id_targets"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_measurements"),
        sa.UniqueConstraint("attempt_id", "position", name="uq_measurements_attempt_id_position"),
    )
    op.create_index("ix_measurements_campaign_id", "measurements", ["campaign_id"])
    op.create_index("ix_measurements_job_id", "measurements", ["job_id"])
    op.create_index("ix_measurements_space_id_target_id", "measurements", ["space_id", "target_id"])

    op.create_table(
        "runs",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("method", sa.String(), nullable=False),
        sa.Column("space_id", sa.String(length=64), nullable=False),
        sa.Column("predictor_id", sa.String(length=32), nullable=True),
        sa.Column("budget_ms", sa.Double(), nullable=False),
        sa.Column("report", sa.JSON(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["predictor_id"], ["predictors.id"], name="fk_runs_predictor_id_predictors"
        ),
        sa.ForeignKeyConstraint(["space_id"], ["spaces.id"], name="fk_runs_space_id_spaces"),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
    )


def downgrade() -> None:
    op.drop_table("runs")

    op.drop_table("measurements")
    op.drop_table("predictors")

    op.drop_table("attempts")

    op.drop_table("jobs")

    op.drop_table("campaigns")
    op.drop_table("tokens")
    op.drop_table("lattices")

    op.drop_table("targets")

    op.drop_table("agents")
    op.drop_table("spaces")
    op.drop_table("models")
    op.drop_table("devices")
