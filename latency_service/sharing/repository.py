"""SQL of exports and imports, which concern several rooms."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TypeVar

from sqlalchemy import ColumnElement, Select, func, select, update
from sqlalchemy.orm import Session, undefer

from latency_service.db.base import Base, insert_unless_known
from latency_service.devices.models import Device, Target
from latency_service.jobs.models import Attempt, Job
from latency_service.measurements.models import Measurement
from latency_service.sharing.models import DatabaseIdentity
from latency_service.spaces.models import Space

Found = tuple[Measurement, Job, Attempt]
Kept = TypeVar("Kept", Job, Attempt)
_WHOLE = (
    select(Measurement, Job, Attempt)
    .join(Job, Job.id == Measurement.job_id)
    .join(Attempt, Attempt.id == Measurement.attempt_id)
    .options(undefer(Measurement.rounds), undefer(Measurement.calibration))
)


def identity(session: Session) -> str:
    """Id of this database, made on first use."""
    known = session.get(DatabaseIdentity, 1)
    if known is None:
        insert_unless_known(session, DatabaseIdentity(number=1))
        known = session.get_one(DatabaseIdentity, 1)
    return known.id


def identity_if_known(session: Session) -> str | None:
    """Id of this database, None before its first export."""
    return session.scalar(select(DatabaseIdentity.id))


def measurements(
    session: Session,
    *,
    space_id: str | None,
    device_id: str | None,
    after_id: str,
    limit: int,
) -> Sequence[Found]:
    """Measurements with an id above `after_id`, by id, with their jobs and attempts."""
    chosen = _WHOLE.where(Measurement.id > after_id, *_chosen(space_id, device_id))
    return _found(session, chosen.order_by(Measurement.id).limit(limit))


def count(session: Session, *, space_id: str | None, device_id: str | None) -> int:
    """Number of those that `measurements` gives in all."""
    counted = select(func.count(Measurement.id)).where(*_chosen(space_id, device_id))
    return session.scalar(counted) or 0


def _chosen(space_id: str | None, device_id: str | None) -> Iterator[ColumnElement[bool]]:
    if space_id is not None:
        yield Measurement.space_id == space_id
    if device_id is not None:
        of_device = select(Target.id).where(Target.device_id == device_id)
        yield Measurement.target_id.in_(of_device)


def measurements_of(session: Session, ids: Collection[str]) -> Sequence[Found]:
    """Those of `ids` that are known, with their jobs and attempts."""
    return _found(session, _WHOLE.where(Measurement.id.in_(ids)))


def _found(session: Session, chosen: Select[Measurement, Job, Attempt]) -> Sequence[Found]:
    return [(measurement, job, attempt) for measurement, job, attempt in session.execute(chosen)]


def spaces(session: Session, ids: Collection[str]) -> Sequence[Space]:
    return session.scalars(
        select(Space).where(Space.id.in_(ids)).options(undefer(Space.blob)).order_by(Space.id)
    ).all()


def targets(session: Session, ids: Collection[str]) -> Sequence[Target]:
    return session.scalars(select(Target).where(Target.id.in_(ids)).order_by(Target.id)).all()


def by_id(session: Session, table: type[Kept], ids: Collection[str]) -> dict[str, Kept]:
    """Those of `ids` that the table has, by id."""
    rows = session.scalars(select(table).where(table.id.in_(ids)))
    return {row.id: row for row in rows}


def known_ids(session: Session, table: type[Base], ids: Collection[str]) -> set[str]:
    """Those of `ids` that the table has already."""
    key = table.__table__.c.id
    return set(session.scalars(select(key).where(key.in_(ids))))


def device_names(session: Session) -> set[str]:
    return set(session.scalars(select(Device.name)))


def set_current(session: Session, device_id: str, runtime_key: str, target_id: str) -> None:
    """Make one target of a device and runtime the current one."""
    mine = update(Target).where(Target.device_id == device_id, Target.runtime_key == runtime_key)
    session.execute(mine.where(Target.id != target_id).values(is_current=False))
    session.execute(update(Target).where(Target.id == target_id).values(is_current=True))


def trainable(session: Session, ids: Collection[str], least: int) -> Sequence[tuple[str, str]]:
    """(space, target) of those targets with at least `least` measurements to train on."""
    chosen = select(Measurement.space_id, Measurement.target_id).where(
        Measurement.target_id.in_(ids),
        Measurement.counted,
        Measurement.trainable,
        Measurement.widths.is_not(None),
    )
    grouped = chosen.group_by(Measurement.space_id, Measurement.target_id)
    found = session.execute(grouped.having(func.count() >= least))
    return [(space_id, target_id) for space_id, target_id in found]
