"""All SQL about predictors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

from sqlalchemy import ColumnElement, Table, bindparam, delete, exists, func, select
from sqlalchemy.orm import InstrumentedAttribute, Session, aliased, joinedload, undefer

from latency_service.devices.models import Device, Target
from latency_service.jobs.models import Job
from latency_service.measurements.models import Measurement
from latency_service.predictors.models import StoredPredictor

_PREDICTORS = cast("Table", StoredPredictor.__table__)
_HAS_PREDICTOR = (
    select(_PREDICTORS.c.id)
    .where(
        _PREDICTORS.c.space_id == bindparam("its_space_id"),
        _PREDICTORS.c.target_id == bindparam("its_target_id"),
    )
    .limit(1)
)


def predictor(session: Session, predictor_id: str) -> StoredPredictor | None:
    return session.get(StoredPredictor, predictor_id)


def artifact(session: Session, predictor_id: str) -> bytes | None:
    return session.scalar(
        select(StoredPredictor.artifact).where(StoredPredictor.id == predictor_id)
    )


def id_of_job(session: Session, job_id: str) -> str | None:
    return session.scalar(select(StoredPredictor.id).where(StoredPredictor.job_id == job_id))


def has_predictor(session: Session, space_id: str, target_id: str) -> bool:
    """Whether there is a predictor of the space on the target."""
    parameters = {"its_space_id": space_id, "its_target_id": target_id}
    return session.scalar(_HAS_PREDICTOR, parameters) is not None


def newest(session: Session, space_id: str, target_id: str) -> StoredPredictor | None:
    """With the measurements that it was trained on."""
    chosen = select(StoredPredictor).where(
        StoredPredictor.space_id == space_id, StoredPredictor.target_id == target_id
    )
    ordered = chosen.order_by(StoredPredictor.version.desc()).limit(1)
    return session.scalar(ordered.options(undefer(StoredPredictor.measurement_ids)))


def of_campaign(session: Session, campaign_id: str) -> Sequence[StoredPredictor]:
    """One for each training of the campaign that succeeded, oldest first."""
    chosen = (
        select(StoredPredictor)
        .join(Job, Job.id == StoredPredictor.job_id)
        .where(Job.campaign_id == campaign_id)
    )
    return session.scalars(chosen.order_by(StoredPredictor.version)).all()


def any_of(session: Session, space_id: str, device_id: str, runtime_key: str) -> bool:
    """Whether there is a predictor of the space on any target that this device and runtime have
    been.
    """
    chosen = (
        select(StoredPredictor.id)
        .join(Target, Target.id == StoredPredictor.target_id)
        .where(StoredPredictor.space_id == space_id)
    )
    mine = chosen.where(Target.device_id == device_id, Target.runtime_key == runtime_key)
    return session.scalar(mine.limit(1)) is not None


def newest_beside(session: Session, target_ids: Sequence[str]) -> Sequence[StoredPredictor]:
    """The newest predictor of each space and target apart from these targets, for the spaces that
    were measured on these.
    """
    newer = aliased(StoredPredictor)
    is_superseded = exists().where(
        newer.space_id == StoredPredictor.space_id,
        newer.target_id == StoredPredictor.target_id,
        newer.version > StoredPredictor.version,
    )
    measured = select(Measurement.space_id).where(Measurement.target_id.in_(target_ids))
    chosen = select(StoredPredictor).where(
        StoredPredictor.space_id.in_(measured), StoredPredictor.target_id.not_in(target_ids)
    )
    return session.scalars(chosen.where(~is_superseded).order_by(StoredPredictor.id)).all()


def delete_of(session: Session, target_ids: Sequence[str]) -> int:
    """Delete the predictors of these targets; how many there were."""
    gone = (
        delete(StoredPredictor)
        .where(StoredPredictor.target_id.in_(target_ids))
        .returning(StoredPredictor.id)
    )
    return len(session.scalars(gone).all())


def next_version(session: Session, space_id: str, target_id: str) -> int:
    highest = select(func.coalesce(func.max(StoredPredictor.version), 0))
    mine = highest.where(
        StoredPredictor.space_id == space_id, StoredPredictor.target_id == target_id
    )
    return session.execute(mine).scalar_one() + 1


def predictors(
    session: Session,
    *,
    space_id: str | None,
    device: str | None,
    runtime_key: str | None,
    limit: int,
    offset: int,
) -> Sequence[StoredPredictor]:
    """Newest first."""
    chosen = select(StoredPredictor).join(Target, Target.id == StoredPredictor.target_id)
    if space_id is not None:
        chosen = chosen.where(StoredPredictor.space_id == space_id)
    if device is not None:
        chosen = chosen.join(Device, Device.id == Target.device_id).where(Device.name == device)
    if runtime_key is not None:
        chosen = chosen.where(Target.runtime_key == runtime_key)
    ordered = chosen.order_by(StoredPredictor.created_at.desc(), StoredPredictor.id.desc())
    return session.scalars(ordered.limit(limit).offset(offset)).all()


class Chosen(NamedTuple):
    """Which predictors a list shows."""

    space_id: str | None = None
    target_id: str | None = None
    device: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        found = []
        if self.space_id is not None:
            found.append(StoredPredictor.space_id == self.space_id)
        if self.target_id is not None:
            found.append(StoredPredictor.target_id == self.target_id)
        if self.device is not None:
            targets = select(Target.id).join(Device, Device.id == Target.device_id)
            mine = targets.where(Device.name == self.device)
            found.append(StoredPredictor.target_id.in_(mine))
        return found


def page(
    session: Session, chosen: Chosen, *, before: str | None, limit: int
) -> Sequence[StoredPredictor]:
    """Newest first, with their targets and devices: those before the predictor with the id
    `before`. Ids ascend with time.
    """
    found = select(StoredPredictor).where(*chosen.conditions())
    if before is not None:
        found = found.where(StoredPredictor.id < before)
    with_place = joinedload(StoredPredictor.target).joinedload(Target.device)
    ordered = found.order_by(StoredPredictor.id.desc())
    return session.scalars(ordered.options(with_place).limit(limit)).all()


def count(session: Session, chosen: Chosen) -> int:
    counted = select(func.count()).select_from(StoredPredictor)
    return session.scalar(counted.where(*chosen.conditions())) or 0


def newest_of_space(session: Session, space_id: str) -> Sequence[StoredPredictor]:
    """The newest predictor of a space on each target, newest first."""
    newest = (
        select(StoredPredictor.target_id, func.max(StoredPredictor.version).label("version"))
        .where(StoredPredictor.space_id == space_id)
        .group_by(StoredPredictor.target_id)
        .subquery()
    )
    chosen = select(StoredPredictor).join(
        newest,
        (newest.c.target_id == StoredPredictor.target_id)
        & (newest.c.version == StoredPredictor.version),
    )
    mine = chosen.where(StoredPredictor.space_id == space_id)
    with_place = joinedload(StoredPredictor.target).joinedload(Target.device)
    ordered = mine.order_by(StoredPredictor.created_at.desc(), StoredPredictor.id.desc())
    return session.scalars(ordered.options(with_place)).all()


def count_by_target(session: Session, target_ids: Sequence[str]) -> dict[str, int]:
    """How many predictors each of these targets has."""
    return _count_by(session, StoredPredictor.target_id, target_ids)


def count_by_space(session: Session, space_ids: Sequence[str]) -> dict[str, int]:
    """How many predictors each of these spaces has."""
    return _count_by(session, StoredPredictor.space_id, space_ids)


def _count_by(
    session: Session, key: InstrumentedAttribute[str], values: Sequence[str]
) -> dict[str, int]:
    grouped = select(key, func.count()).where(key.in_(values)).group_by(key)
    return {row[0]: row[1] for row in session.execute(grouped)}
