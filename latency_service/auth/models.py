"""Table of tokens."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from latency_service.db.base import Base, UtcDateTime, utcnow


class Token(Base):
    """A bearer token of an agent, or for enrolment; only its hash is kept."""

    __tablename__ = "tokens"
    __table_args__ = (
        CheckConstraint("role IN ('agent', 'enrolment')", name="role"),
        CheckConstraint("(role = 'agent') = (agent_id IS NOT NULL)", name="agent_has_id"),
    )

    # looking a token up is one read by its key
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    role: Mapped[str] = mapped_column(String(16))
    agent_id: Mapped[str | None] = mapped_column(ForeignKey("agents.id"))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, default=utcnow())
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
