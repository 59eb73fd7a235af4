"""SQL of the pages of devices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from latency_service.dashboard.rows import AnyRow, AnySelect
from latency_service.dashboard.tables import PAGE_ROWS
from latency_service.db.base import utcnow
from latency_service.devices.models import Agent, Device, Target
from latency_service.jobs.models import Attempt, Job
from latency_service.measurements.models import Measurement

DAY_SECONDS = 24 * 3600.0


class Pace(NamedTuple):
    """What the attempts of a device within a day tell."""

    #: Attempts that ended with a result.
    done: int
    #: Attempts that did not.
    failed: int
    #: Mean time from lease to result, s; None without one.
    mean_seconds: float | None


def devices_after(session: Session, name: str | None, limit: int = PAGE_ROWS) -> Sequence[Device]:
    """Devices by name, one more than `limit` where others follow."""
    chosen = select(Device).order_by(Device.name).limit(limit + 1)
    return session.scalars(chosen.where(Device.name > name) if name else chosen).all()


def count_devices(session: Session) -> int:
    return int(session.scalar(select(func.count(Device.id))) or 0)


def paces(session: Session, device_ids: Sequence[str]) -> dict[str, Pace]:
    """How fast each device worked within a day."""
    seconds = _seconds_between(session)
    is_done = Attempt.state.in_(("done", "late", "superseded"))
    chosen = (
        select(
            Agent.device_id,
            func.sum(case((is_done, 1), else_=0)),
            func.sum(case((Attempt.state.in_(("failed", "expired")), 1), else_=0)),
            func.avg(case((is_done, seconds))),
        )
        .join(Agent, Agent.id == Attempt.agent_id)
        .where(Agent.device_id.in_(device_ids), Attempt.leased_at > utcnow(-DAY_SECONDS))
        .group_by(Agent.device_id)
    )
    return {str(row[0]): Pace(int(row[1]), int(row[2]), row[3]) for row in session.execute(chosen)}


def attempts_since(device_id: str, seconds: float) -> AnySelect:
    """Attempts of a device that began within that time: (id, job, kind, campaign, state, leased,
    finished, wall s, timed s, failure kind).
    """
    return (
        select(
            Attempt.id,
            Attempt.job_id,
            Job.kind,
            Job.campaign_id,
            Attempt.state,
            Attempt.leased_at,
            Attempt.finished_at,
            Attempt.wall_seconds,
            Attempt.timed_seconds,
            Attempt.failure_kind,
        )
        .join(Agent, Agent.id == Attempt.agent_id)
        .join(Job, Job.id == Attempt.job_id)
        .where(Agent.device_id == device_id, Attempt.leased_at > utcnow(-seconds))
    )


def calibrations(session: Session, device_id: str, limit: int) -> Sequence[AnyRow]:
    """Calibrations of a device's newest attempts with a result, newest first: (when, calibration,
    lowest canaries of the target in ms, runtime).
    """
    newest = (
        select(Attempt.id, Attempt.leased_at)
        .join(Agent, Agent.id == Attempt.agent_id)
        .where(Agent.device_id == device_id, Attempt.digest.is_not(None))
        .order_by(Attempt.leased_at.desc())
        .limit(limit)
        .subquery()
    )
    chosen = (
        select(newest.c.leased_at, Measurement.calibration, Target.canary_ms, Target.runtime_key)
        .join(Measurement, (Measurement.attempt_id == newest.c.id) & (Measurement.position == 0))
        .join(Target, Target.id == Measurement.target_id)
    )
    return session.execute(chosen.order_by(newest.c.leased_at.desc())).all()


def _seconds_between(session: Session) -> Any:
    """Time from lease to end of an attempt, s, on either database."""
    if session.get_bind().dialect.name == "sqlite":
        days = func.julianday(Attempt.finished_at) - func.julianday(Attempt.leased_at)
        return days * DAY_SECONDS
    return func.extract("epoch", Attempt.finished_at - Attempt.leased_at)
