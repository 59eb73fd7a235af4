"""All SQL about runs."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session, undefer

from latency_service.runs.models import Run


def run(session: Session, run_id: str) -> Run | None:
    return session.scalar(select(Run).where(Run.id == run_id).options(undefer(Run.report)))


def runs(session: Session, limit: int, offset: int) -> Sequence[Run]:
    """Newest first."""
    chosen = select(Run).options(undefer(Run.report)).order_by(Run.created_at.desc(), Run.id.desc())
    return session.scalars(chosen.limit(limit).offset(offset)).all()
