"""Table of campaigns."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, CheckConstraint, ForeignKey, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column, relationship

from latency_service.db.base import Base, UtcDateTime, new_id, utcnow
from latency_service.devices.models import Device


class Campaign(Base):
    __tablename__ = "campaigns"
    __table_args__ = (
        CheckConstraint("purpose IN ('predictor', 'measure')", name="purpose"),
        CheckConstraint("state IN ('running', 'done', 'failed', 'cancelled')", name="state"),
        CheckConstraint("phase IN ('lattice', 'measuring', 'training', 'done')", name="phase"),
        # campaigns of a device that wait for its lattice are found when it is ready
        Index(None, "device_id", "runtime_key", "state"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    space_id: Mapped[str] = mapped_column(ForeignKey("spaces.id"))
    device_id: Mapped[str] = mapped_column(ForeignKey("devices.id"))
    runtime_key: Mapped[str]
    runtime: Mapped[dict[str, Any]] = mapped_column(JSON)
    purpose: Mapped[str] = mapped_column(String(16))
    state: Mapped[str] = mapped_column(String(16), default="running")
    phase: Mapped[str] = mapped_column(String(16))
    #: Number of architectures to sample, and of those that are measured again.
    count: Mapped[int]
    repeats: Mapped[int]
    #: Number of architectures that a second device of the class measures too.
    peer_repeats: Mapped[int] = mapped_column(default=0, server_default="0")
    #: Width vectors to measure, for purpose `measure`.
    widths: Mapped[list[list[int]] | None] = mapped_column(JSON(none_as_null=True))
    batch_size: Mapped[int]
    protocol: Mapped[dict[str, Any]] = mapped_column(JSON)
    seed: Mapped[int] = mapped_column(BigInteger)
    #: Whether to measure only a few architectures of a changed target, with its former lattice.
    repair: Mapped[bool] = mapped_column(default=False)
    #: Goal for the upper confidence bound of the held-out error, per cent.
    goal_percent: Mapped[float | None]
    #: Time limit of measuring and training, since the campaign was created.
    at_most_seconds: Mapped[float | None]
    #: Widths [G] near which to measure.
    around: Mapped[list[int] | None] = mapped_column(JSON(none_as_null=True))
    lattice_id: Mapped[str | None] = mapped_column(ForeignKey("lattices.id"))
    failure: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow())
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)

    device: Mapped[Device] = relationship()
