"""Table of pruning runs."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from latency_service.db.base import Base, UtcDateTime, new_id, utcnow


class Run(Base):
    __tablename__ = "runs"

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    name: Mapped[str] = mapped_column(String(120))
    method: Mapped[str]
    space_id: Mapped[str] = mapped_column(ForeignKey("spaces.id"))
    predictor_id: Mapped[str | None] = mapped_column(ForeignKey("predictors.id"))
    budget_ms: Mapped[float]
    report: Mapped[dict[str, Any]] = mapped_column(JSON, deferred=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow())
