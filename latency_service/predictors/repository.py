"""All SQL about predictors."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from latency_service.devices.models import Device, Target
from latency_service.predictors.models import Predictor


def predictor(session: Session, predictor_id: str) -> Predictor | None:
    return session.get(Predictor, predictor_id)


def artifact(session: Session, predictor_id: str) -> bytes | None:
    return session.scalar(select(Predictor.artifact).where(Predictor.id == predictor_id))


def id_of_job(session: Session, job_id: str) -> str | None:
    return session.scalar(select(Predictor.id).where(Predictor.job_id == job_id))


def next_version(session: Session, space_id: str, target_id: str) -> int:
    highest = select(func.coalesce(func.max(Predictor.version), 0))
    mine = highest.where(Predictor.space_id == space_id, Predictor.target_id == target_id)
    return session.execute(mine).scalar_one() + 1


def predictors(
    session: Session, *, space_id: str | None, device: str | None, runtime_key: str | None, limit: int, offset: int
) -> Sequence[Predictor]:
    """Newest first."""
    chosen = select(Predictor).join(Target, Target.id == Predictor.target_id)
    if space_id is not None:
        chosen = chosen.where(Predictor.space_id == space_id)
    if device is not None:
        chosen = chosen.join(Device, Device.id == Target.device_id).where(Device.name == device)
    if runtime_key is not None:
        chosen = chosen.where(Target.runtime_key == runtime_key)
    ordered = chosen.order_by(Predictor.created_at.desc(), Predictor.id.desc())
    return session.scalars(ordered.limit(limit).offset(offset)).all()
