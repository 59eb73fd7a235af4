"""All SQL about measurements."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple
from typing import cast as cast_type

from sqlalchemy import (
    ColumnElement,
    Row,
    Table,
    Text,
    cast,
    delete,
    exists,
    func,
    select,
    update,
)
from sqlalchemy import insert as sql_insert
from sqlalchemy.orm import Session, undefer

from latency_service.db.base import utcnow
from latency_service.devices.models import Device, Target
from latency_service.jobs.models import Job
from latency_service.measurements.models import Measurement
from latency_service.spaces.models import Space

# for each result that arrives; building a statement takes longer than running it
_MEASUREMENTS = cast_type("Table", Measurement.__table__)
_INSERT = sql_insert(_MEASUREMENTS)


class Latency(NamedTuple):
    """A measured latency and its 95 % interval, ms."""

    latency_ms: float
    lower_ms: float
    upper_ms: float


class MeasuredState(NamedTuple):
    """Changes whenever there are other measurements of a space on a target."""

    usable: int
    newest_id: str | None


def measurement(session: Session, measurement_id: str) -> Measurement | None:
    """With its rounds."""
    chosen = select(Measurement).where(Measurement.id == measurement_id)
    return session.scalar(chosen.options(undefer(Measurement.rounds)))


def listed(
    session: Session,
    *,
    space_id: str | None,
    device: str | None,
    campaign_id: str | None,
    limit: int,
    offset: int,
) -> Sequence[Measurement]:
    """Newest first."""
    chosen = select(Measurement)
    if space_id is not None:
        chosen = chosen.where(Measurement.space_id == space_id)
    if device is not None:
        chosen = (
            chosen.join(Target, Target.id == Measurement.target_id)
            .join(Device)
            .where(Device.name == device)
        )
    if campaign_id is not None:
        chosen = chosen.where(Measurement.campaign_id == campaign_id)
    ordered = chosen.order_by(Measurement.created_at.desc(), Measurement.id.desc())
    return session.scalars(ordered.limit(limit).offset(offset)).all()


def insert(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    """Store measurements, given by their columns."""
    session.execute(_INSERT, rows)


def ids_of_attempt(session: Session, attempt_id: str) -> Sequence[str]:
    chosen = select(Measurement.id).where(Measurement.attempt_id == attempt_id)
    return session.scalars(chosen.order_by(Measurement.position)).all()


def ids_of_job(session: Session, job_id: str) -> Sequence[str]:
    """Those that count, then the extra repeats."""
    chosen = select(Measurement.id).where(Measurement.job_id == job_id)
    return session.scalars(
        chosen.order_by(Measurement.counted.desc(), Measurement.position, Measurement.id)
    ).all()


def of_stage(session: Session, campaign_id: str, stage: str) -> Sequence[Measurement]:
    """Measurements of one phase of a campaign without extra repeats, in the order of
    measuring.
    """
    chosen = select(Measurement).join(Job, Job.id == Measurement.job_id)
    mine = chosen.where(Job.campaign_id == campaign_id, Job.stage == stage, Measurement.counted)
    return session.scalars(mine.order_by(Measurement.created_at, Measurement.id)).all()


def targets_of(session: Session, space_id: str, *, least: int, most: int) -> Sequence[str]:
    """Ids of the targets with at least `least` measurements of a space to train on; of more than
    `most` the newest.
    """
    usable = select(Measurement.target_id).where(*_usable(space_id)).group_by(Measurement.target_id)
    enough = usable.having(func.count() >= least).order_by(func.max(Measurement.created_at).desc())
    return session.scalars(enough.limit(most)).all()


def count_by_stage(session: Session, campaign_id: str) -> dict[str, int]:
    """How many measurements each phase of the campaign has, extra repeats apart."""
    grouped = select(Job.stage, func.count()).join(Measurement, Measurement.job_id == Job.id)
    mine = grouped.where(Job.campaign_id == campaign_id, Measurement.counted).group_by(Job.stage)
    return {str(stage): count for stage, count in session.execute(mine)}


def count_by_target(session: Session, target_ids: Sequence[str]) -> dict[str, int]:
    """How many measurements each of these targets has."""
    grouped = select(Measurement.target_id, func.count()).group_by(Measurement.target_id)
    mine = grouped.where(Measurement.target_id.in_(target_ids))
    return {row[0]: row[1] for row in session.execute(mine)}


def count_by_space(session: Session, target_id: str) -> dict[str, int]:
    """How many measurements each space has on a target."""
    grouped = select(Measurement.space_id, func.count()).group_by(Measurement.space_id)
    mine = grouped.where(Measurement.target_id == target_id)
    return {row[0]: row[1] for row in session.execute(mine)}


def measured_spaces(session: Session) -> dict[str, str]:
    """Names of the spaces that were measured anywhere, by their ids; found without counting."""
    chosen = select(Space.id, Space.name).where(exists().where(Measurement.space_id == Space.id))
    return {row[0]: row[1] for row in session.execute(chosen)}


def for_training(session: Session, space_id: str, target_id: str) -> Sequence[Measurement]:
    """Architectures of a space on a target that can be trained on, whatever campaign or
    verification they are from.
    """
    chosen = select(Measurement).where(*_usable_on(space_id, target_id))
    return session.scalars(chosen.order_by(Measurement.created_at, Measurement.id)).all()


def usable_ids(session: Session, space_id: str, target_id: str) -> dict[str, bool]:
    """Of the same: whether each is of a delivered file, by its id."""
    chosen = select(Measurement.id, Measurement.model_sha256.is_not(None))
    chosen = chosen.where(*_usable_on(space_id, target_id))
    return {row[0]: row[1] for row in session.execute(chosen)}


def target_of_attempt(session: Session, attempt_id: str) -> str | None:
    """The target that the attempt's measurements turned out to be on."""
    return session.scalar(
        select(Measurement.target_id).where(Measurement.attempt_id == attempt_id).limit(1)
    )


def newest_on(
    session: Session, space_id: str, target_id: str, architectures: Collection[Sequence[int]]
) -> dict[tuple[int, ...], Latency]:
    """The newest measurement of each architecture on a target, of those as precise as was asked
    for.
    """
    chosen = select(
        Measurement.widths, Measurement.latency_ms, Measurement.lower_ms, Measurement.upper_ms
    )
    texts = [json.dumps(list(widths)) for widths in architectures]
    mine = chosen.where(
        Measurement.space_id == space_id,
        Measurement.target_id == target_id,
        Measurement.verdict == "ok",
        cast(Measurement.widths, Text).in_(texts),
    )
    rows = session.execute(mine.order_by(Measurement.created_at, Measurement.id))
    return {tuple(widths): Latency(*ms) for widths, *ms in rows if widths is not None}


def trusted_on(session: Session, target_id: str) -> Sequence[Row[str, list[int], float]]:
    """(space, widths, latency in ms) of every architecture measured on a target as precisely as
    was asked for.
    """
    chosen = select(Measurement.space_id, Measurement.widths, Measurement.latency_ms)
    mine = chosen.where(Measurement.target_id == target_id, Measurement.widths.is_not(None))
    return session.execute(mine.where(Measurement.verdict == "ok")).all()  # type: ignore[return-value]


def drop_rounds(session: Session, older_than_seconds: float, most: int) -> int:
    """Drop the raw rounds of up to `most` measurements older than that; how many there were."""
    old = select(Measurement.id).where(
        Measurement.rounds_kept, Measurement.created_at < utcnow(-older_than_seconds)
    )
    chosen = old.order_by(Measurement.created_at).limit(most).scalar_subquery()
    dropped = update(Measurement).where(Measurement.id.in_(chosen), Measurement.rounds_kept)
    emptied = dropped.values(rounds=[], rounds_kept=False).returning(Measurement.id)
    found = session.scalars(emptied.execution_options(synchronize_session=False))
    return len(found.all())


def delete_of(session: Session, target_ids: Sequence[str]) -> int:
    """Delete the measurements on these targets; how many there were."""
    gone = (
        delete(Measurement).where(Measurement.target_id.in_(target_ids)).returning(Measurement.id)
    )
    return len(session.scalars(gone).all())


def measured(
    session: Session, space_id: str, target_id: str
) -> Sequence[Row[str, list[int] | None, float, float, float]]:
    """Of the same those as precise as was asked for: (id, widths, latency, lower, upper), oldest
    first.
    """
    chosen = select(
        Measurement.id,
        Measurement.widths,
        Measurement.latency_ms,
        Measurement.lower_ms,
        Measurement.upper_ms,
    )
    mine = chosen.where(*_usable_on(space_id, target_id), Measurement.verdict == "ok")
    return session.execute(mine.order_by(Measurement.created_at, Measurement.id)).all()


def measured_state(session: Session, space_id: str, target_id: str) -> MeasuredState:
    """Of all that can be trained on, without reading them."""
    chosen = select(func.count(), func.max(Measurement.id)).where(*_usable_on(space_id, target_id))
    usable, newest_id = session.execute(chosen).one()
    return MeasuredState(usable, newest_id)


def _usable(space_id: str) -> list[ColumnElement[bool]]:
    return [
        Measurement.space_id == space_id,
        Measurement.counted.is_(True),
        Measurement.trainable.is_(True),
        Measurement.widths.is_not(None),
    ]


def _usable_on(space_id: str, target_id: str) -> list[ColumnElement[bool]]:
    return [*_usable(space_id), Measurement.target_id == target_id]
