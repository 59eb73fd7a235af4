"""All SQL about runs."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select, update
from sqlalchemy.orm import Session, undefer

from latency_service.predictors.models import StoredPredictor
from latency_service.runs.models import Run


def run(session: Session, run_id: str) -> Run | None:
    return session.scalar(select(Run).where(Run.id == run_id).options(undefer(Run.report)))


def runs(session: Session, limit: int, offset: int) -> Sequence[Run]:
    """Newest first."""
    chosen = select(Run).options(undefer(Run.report)).order_by(Run.created_at.desc(), Run.id.desc())
    return session.scalars(chosen.limit(limit).offset(offset)).all()


def forget_predictors(session: Session, target_ids: Sequence[str]) -> None:
    """No run refers to a predictor of these targets any more."""
    theirs = select(StoredPredictor.id).where(StoredPredictor.target_id.in_(target_ids))
    session.execute(update(Run).where(Run.predictor_id.in_(theirs)).values(predictor_id=None))
