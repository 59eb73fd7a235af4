"""Table of predictors: the artifact and its sidecar, whole or absent."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, LargeBinary, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from latency_service.db.base import Base, UtcDateTime, new_id, utcnow
from latency_service.devices.models import Target


class StoredPredictor(Base):
    __tablename__ = "predictors"
    __table_args__ = (
        # versions of a predictor are a sequence; the newest is used
        UniqueConstraint("space_id", "target_id", "version"),
        # a training job publishes once, however often it is tried
        UniqueConstraint("job_id"),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    space_id: Mapped[str] = mapped_column(ForeignKey("spaces.id"))
    target_id: Mapped[str] = mapped_column(ForeignKey("targets.id"))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id"))
    version: Mapped[int]
    artifact_sha256: Mapped[str] = mapped_column(String(64))
    sidecar: Mapped[dict[str, Any]] = mapped_column(JSON)
    #: Ids of the measurements that it was trained on.
    measurement_ids: Mapped[list[str]] = mapped_column(JSON, deferred=True)
    #: `HeldOut`: predictions of cross-validation beside the measurements.
    held_out: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True), deferred=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow())
    artifact: Mapped[bytes] = mapped_column(LargeBinary, deferred=True)

    target: Mapped[Target] = relationship()
