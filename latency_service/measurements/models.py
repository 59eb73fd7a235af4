"""Table of measurements."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    CheckConstraint,
    ForeignKey,
    Index,
    String,
    Text,
    UniqueConstraint,
    text,
    true,
)
from sqlalchemy.orm import Mapped, mapped_column

from latency_service.db.base import Base, UtcDateTime, new_id, utcnow


class Measurement(Base):
    """One architecture (or delivered file) on one target. Latencies in ms."""

    __tablename__ = "measurements"
    __table_args__ = (
        CheckConstraint("verdict IN ('ok', 'unstable')", name="verdict"),
        # a result that is sent twice stores each architecture once
        UniqueConstraint("attempt_id", "position"),
        # training gathers a space's measurements on a target
        Index(None, "space_id", "target_id"),
        # a campaign counts what it has measured, and lists it newest first
        Index(None, "campaign_id", "id"),
        # a device counts what was measured on it, and lists it newest first
        Index(None, "target_id", "id"),
        # those of a verdict are listed newest first
        Index(None, "verdict", "id"),
        # a job shows its results
        Index(None, "job_id"),
        # retention finds the oldest measurements that still have raw rounds
        Index(
            "ix_measurements_rounds_kept",
            "created_at",
            sqlite_where=text("rounds_kept"),
            postgresql_where=text("rounds_kept"),
        ),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    space_id: Mapped[str] = mapped_column(ForeignKey("spaces.id"))
    target_id: Mapped[str] = mapped_column(ForeignKey("targets.id"))
    campaign_id: Mapped[str | None] = mapped_column(ForeignKey("campaigns.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    attempt_id: Mapped[str] = mapped_column(ForeignKey("attempts.id"))
    #: Index in the batch of the lease.
    position: Mapped[int]
    widths: Mapped[list[int] | None] = mapped_column(JSON(none_as_null=True))
    model_sha256: Mapped[str | None] = mapped_column(String(64))
    #: False for an extra repeat: the job's own measurements came from another attempt.
    counted: Mapped[bool]
    latency_ms: Mapped[float]
    lower_ms: Mapped[float]
    upper_ms: Mapped[float]
    naive_ms: Mapped[float]
    #: Quiet latency of the reference network.
    reference_ms: Mapped[float | None]
    #: Relative change of the latency for a relative change of `reference_ms`.
    reference_elasticity: Mapped[float | None]
    verdict: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(Text)
    trainable: Mapped[bool]
    quiet_share: Mapped[float]
    quarantined_share: Mapped[float]
    rounds_used: Mapped[int]
    stopped: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow())
    #: Raw data that the summary was made from.
    calibration: Mapped[dict[str, Any]] = mapped_column(JSON, deferred=True)
    rounds: Mapped[list[dict[str, Any]]] = mapped_column(JSON, deferred=True)
    #: False once retention has dropped the rounds.
    rounds_kept: Mapped[bool] = mapped_column(default=True, server_default=true())
