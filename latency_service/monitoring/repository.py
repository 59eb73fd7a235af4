"""SQL of the figures for Prometheus, which concern several rooms."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session, aliased

from latency_service.db.base import utcnow
from latency_service.devices import repository as devices_repository
from latency_service.devices.models import Agent, Device, Target
from latency_service.jobs.models import Attempt, Job
from latency_service.predictors.models import StoredPredictor

OPEN_STATES = ("queued", "leased")


def jobs_by_kind_and_state(session: Session) -> dict[tuple[str, str], int]:
    rows = session.execute(select(Job.kind, Job.state, func.count()).group_by(Job.kind, Job.state))
    return {(kind, state): count for kind, state, count in rows}


def waiting_seconds(session: Session) -> dict[str, float]:
    """Age in s of the oldest job that waits, by its kind; kinds without one are left out."""
    oldest = select(Job.kind, func.min(Job.created_at)).where(Job.state == "queued")
    now = devices_repository.now(session)
    rows = session.execute(oldest.group_by(Job.kind))
    return {kind: max(0.0, (now - since).total_seconds()) for kind, since in rows}


def leases(session: Session) -> tuple[int, float, int]:
    """How many leases are held, the age in s of the oldest (0 without one), and how many have run
    out without being given out again.
    """
    held = select(
        func.count(),
        func.min(Attempt.leased_at),
        func.count().filter(Attempt.expires_at <= utcnow()),
    ).where(Attempt.state == "open")
    count, oldest, overdue = session.execute(held).one()
    now = devices_repository.now(session)
    return count, 0.0 if oldest is None else max(0.0, (now - oldest).total_seconds()), overdue


def failures_by_kind(session: Session) -> dict[str, int]:
    """How many attempts ended in each kind of failure."""
    failed = select(Attempt.failure_kind, func.count()).where(Attempt.failure_kind.is_not(None))
    rows = session.execute(failed.group_by(Attempt.failure_kind))
    return {str(kind): count for kind, count in rows}


def online_agents(session: Session, since: datetime) -> dict[str, int]:
    """How many agents were heard of since then, by their kind."""
    lately = select(Agent.kind, func.count()).where(Agent.last_seen_at >= since)
    rows = session.execute(lately.group_by(Agent.kind))
    return {kind: count for kind, count in rows}  # noqa: C416 dict() does not know the row's types


def devices_by_state(session: Session, since: datetime) -> dict[str, int]:
    """How many of this service's own devices are quarantined, online (heard of since then) and
    offline.
    """
    trusted = Device.quarantined_at.is_(None)
    silent = or_(Device.last_seen_at.is_(None), Device.last_seen_at < since)
    counts = select(_count(~trusted), _count(trusted & ~silent), _count(trusted & silent)).where(
        Device.imported_from.is_(None)
    )
    quarantined, online, offline = session.execute(counts).one()
    return {"quarantined": quarantined, "online": online, "offline": offline}


def predictor_errors(session: Session) -> list[tuple[float, bool]]:
    """Of the newest predictor of each space and target: its held-out error in per cent, and whether
    its target is still current.
    """
    newer = aliased(StoredPredictor)
    superseded = (
        select(newer.id)
        .where(
            newer.space_id == StoredPredictor.space_id,
            newer.target_id == StoredPredictor.target_id,
            newer.version > StoredPredictor.version,
        )
        .exists()
    )
    error = StoredPredictor.sidecar["mape"].as_float()
    chosen = select(error, Target.is_current).join(Target, Target.id == StoredPredictor.target_id)
    return [(mape, current) for mape, current in session.execute(chosen.where(~superseded))]


def _count(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.count().filter(condition)
