"""All SQL about predictors."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session, undefer

from latency_service.devices.models import Device, Target
from latency_service.jobs.models import Job
from latency_service.predictors.models import Predictor


def predictor(session: Session, predictor_id: str) -> Predictor | None:
    return session.get(Predictor, predictor_id)


def artifact(session: Session, predictor_id: str) -> bytes | None:
    return session.scalar(select(Predictor.artifact).where(Predictor.id == predictor_id))


def id_of_job(session: Session, job_id: str) -> str | None:
    return session.scalar(select(Predictor.id).where(Predictor.job_id == job_id))


def newest(session: Session, space_id: str, target_id: str) -> Predictor | None:
    """With the measurements that it was trained on."""
    chosen = select(Predictor).where(
        Predictor.space_id == space_id, Predictor.target_id == target_id
    )
    ordered = chosen.order_by(Predictor.version.desc()).limit(1)
    return session.scalar(ordered.options(undefer(Predictor.measurement_ids)))


def of_campaign(session: Session, campaign_id: str) -> Sequence[Predictor]:
    """One for each training of the campaign that succeeded, oldest first."""
    chosen = (
        select(Predictor)
        .join(Job, Job.id == Predictor.job_id)
        .where(Job.campaign_id == campaign_id)
    )
    return session.scalars(chosen.order_by(Predictor.version)).all()


def any_of(session: Session, space_id: str, device_id: str, runtime_key: str) -> bool:
    """Whether there is a predictor of the space on any target that this device and runtime have
    been.
    """
    chosen = (
        select(Predictor.id)
        .join(Target, Target.id == Predictor.target_id)
        .where(Predictor.space_id == space_id)
    )
    mine = chosen.where(Target.device_id == device_id, Target.runtime_key == runtime_key)
    return session.scalar(mine.limit(1)) is not None


def delete_of(session: Session, target_ids: Sequence[str]) -> int:
    """Delete the predictors of these targets; how many there were."""
    gone = delete(Predictor).where(Predictor.target_id.in_(target_ids)).returning(Predictor.id)
    return len(session.scalars(gone).all())


def next_version(session: Session, space_id: str, target_id: str) -> int:
    highest = select(func.coalesce(func.max(Predictor.version), 0))
    mine = highest.where(Predictor.space_id == space_id, Predictor.target_id == target_id)
    return session.execute(mine).scalar_one() + 1


def predictors(
    session: Session,
    *,
    space_id: str | None,
    device: str | None,
    runtime_key: str | None,
    limit: int,
    offset: int,
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
