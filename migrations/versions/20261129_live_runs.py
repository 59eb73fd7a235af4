"""Pruning runs that are still going on, and what a predictor says of architectures it has not seen.

Tables are frozen here: never import the models.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "20261129_live_runs"
down_revision = "20261129_dashboard"
branch_labels = None
depends_on = None

INSTANT = sa.DateTime(timezone=True)
RUNS = sa.table(
    "runs",
    sa.column("id", sa.String),
    sa.column("report", sa.JSON),
    sa.column("summary", sa.JSON),
    sa.column("state", sa.String),
    sa.column("created_at", INSTANT),
    sa.column("updated_at", INSTANT),
)
NETWORK = ("latency_ms", "lower_ms", "upper_ms", "accuracy", "parameters", "macs", "file_bytes")


def upgrade() -> None:
    with op.batch_alter_table("predictors") as predictors:
        predictors.add_column(sa.Column("held_out", sa.JSON(), nullable=True))
    with op.batch_alter_table("runs") as runs:
        runs.alter_column("report", existing_type=sa.JSON(), nullable=True)
        runs.add_column(sa.Column("state", sa.String(length=16), nullable=True))
        runs.add_column(sa.Column("phase", sa.String(length=120), nullable=True))
        runs.add_column(sa.Column("done", sa.Integer(), nullable=True))
        runs.add_column(sa.Column("total", sa.Integer(), nullable=True))
        runs.add_column(sa.Column("dense_ms", sa.Double(), nullable=True))
        runs.add_column(sa.Column("dense_accuracy", sa.Double(), nullable=True))
        runs.add_column(sa.Column("failure", sa.Text(), nullable=True))
        runs.add_column(sa.Column("summary", sa.JSON(), nullable=True))
        runs.add_column(sa.Column("verifications", sa.JSON(), nullable=True))
        runs.add_column(sa.Column("updated_at", INSTANT, nullable=True))
    _fill()
    with op.batch_alter_table("runs") as runs:
        runs.alter_column("state", existing_type=sa.String(length=16), nullable=False)
        runs.alter_column("updated_at", existing_type=INSTANT, nullable=False)
        runs.create_check_constraint(
            op.f("ck_runs_state"), "state IN ('running', 'done', 'failed')"
        )
    op.create_table(
        "run_entries",
        sa.Column("run_id", sa.String(length=32), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("entry", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_run_entries_run_id_runs"),
        sa.PrimaryKeyConstraint("run_id", "position", name="pk_run_entries"),
    )


def downgrade() -> None:
    op.drop_table("run_entries")
    # the first schema holds finished runs only
    op.execute("DELETE FROM runs WHERE state <> 'done'")
    with op.batch_alter_table("runs") as runs:
        runs.drop_constraint(op.f("ck_runs_state"), type_="check")
        for name in (
            "updated_at",
            "verifications",
            "summary",
            "failure",
            "dense_accuracy",
            "dense_ms",
            "total",
            "done",
            "phase",
            "state",
        ):
            runs.drop_column(name)
        runs.alter_column("report", existing_type=sa.JSON(), nullable=False)
    with op.batch_alter_table("predictors") as predictors:
        predictors.drop_column("held_out")


def _fill() -> None:
    """Runs that are there have ended; what lists show of them is read from their reports."""
    connection = op.get_bind()
    ids = connection.scalars(sa.select(RUNS.c.id)).all()
    for run_id in ids:
        mine = RUNS.c.id == run_id
        report = connection.scalar(sa.select(RUNS.c.report).where(mine)) or {}
        connection.execute(
            sa.update(RUNS)
            .where(mine)
            .values(
                state="done",
                summary=_summary(report),
                updated_at=RUNS.c.created_at,
            )
        )


def _summary(report: dict[str, Any]) -> dict[str, Any]:
    found = {
        name: report.get(name)
        for name in ("outcome", "over_percent", "device", "fingerprint", "seed", "command")
    }
    for part in ("dense", "pruned"):
        figures = report.get(part) or {}
        found[part] = {name: figures.get(name) for name in NETWORK}
    return found
