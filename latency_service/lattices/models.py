"""Table of lattices: versions for each target."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column, relationship

from latency_service.db.base import Base, UtcDateTime, new_id, utcnow
from latency_service.devices.models import Target


class StoredLattice(Base):
    __tablename__ = "lattices"
    # versions of a target's lattice are a sequence; the newest is used
    __table_args__ = (UniqueConstraint("target_id", "version"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True, default=new_id)
    target_id: Mapped[str] = mapped_column(ForeignKey("targets.id"))
    version: Mapped[int]
    lattice: Mapped[dict[str, Any]] = mapped_column(JSON)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow())

    target: Mapped[Target] = relationship()
