"""Table of pruning runs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, CheckConstraint, ForeignKey, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from latency_service.db.base import Base, UtcDateTime, new_id, utcnow


class Run(Base):
    __tablename__ = "runs"
    __table_args__ = (CheckConstraint("state IN ('running', 'done', 'failed')", name="state"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(120))
    method: Mapped[str]
    space_id: Mapped[str] = mapped_column(ForeignKey("spaces.id"))
    predictor_id: Mapped[str | None] = mapped_column(ForeignKey("predictors.id"))
    budget_ms: Mapped[float]
    state: Mapped[str] = mapped_column(String(16), default="running")
    #: What the client is doing, and how much of it is done.
    phase: Mapped[str | None] = mapped_column(String(120))
    done: Mapped[int | None]
    total: Mapped[int | None]
    #: Of the dense network as measured, before anything is pruned.
    dense_ms: Mapped[float | None]
    dense_accuracy: Mapped[float | None]
    #: Why it ended without a result.
    failure: Mapped[str | None] = mapped_column(Text)
    #: What lists and comparisons show of the report.
    summary: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    #: Measurements of whole files so far; of a run that has ended they are in its report.
    verifications: Mapped[list[dict[str, Any]] | None] = mapped_column(
        JSON(none_as_null=True), deferred=True
    )
    report: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True), deferred=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow())
    #: When the client was last heard of.
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow(), onupdate=utcnow())


class RunEntry(Base):
    """An entry of the training's history while the run goes on; in the end its report has them."""

    __tablename__ = "run_entries"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    #: Index in the history.
    position: Mapped[int] = mapped_column(primary_key=True)
    entry: Mapped[dict[str, Any]] = mapped_column(JSON)
