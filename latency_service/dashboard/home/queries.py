"""SQL of the first page."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from latency_service.campaigns.models import Campaign
from latency_service.dashboard.rows import AnyRow
from latency_service.db.base import utcnow
from latency_service.devices.models import Agent, Device, Target
from latency_service.jobs.models import Attempt, Job
from latency_service.measurements.models import Measurement
from latency_service.predictors.models import StoredPredictor
from latency_service.runs.models import Run
from latency_service.spaces.models import Space

DAY_SECONDS = 24 * 3600.0


def last_contacts(session: Session) -> Sequence[AnyRow]:
    """(name, last seen) of every device that was not imported."""
    own = select(Device.name, Device.last_seen_at).where(Device.imported_from.is_(None))
    return session.execute(own.order_by(Device.name)).all()


def attempts_under_way(session: Session, limit: int) -> Sequence[AnyRow]:
    """Open attempts, longest first: (job, kind, campaign, device, since)."""
    chosen = (
        select(Job.id, Job.kind, Job.campaign_id, Device.name, Attempt.leased_at)
        .join(Job, Job.id == Attempt.job_id)
        .join(Agent, Agent.id == Attempt.agent_id)
        .outerjoin(Device, Device.id == Agent.device_id)
        .where(Attempt.state == "open")
    )
    return session.execute(chosen.order_by(Attempt.leased_at).limit(limit)).all()


def failed_today(session: Session, limit: int) -> Sequence[AnyRow]:
    """Jobs that failed within a day, last first: (job, kind, campaign, device, failure kind,
    message, when).
    """
    chosen = (
        select(
            Job.id,
            Job.kind,
            Job.campaign_id,
            Device.name,
            Job.failure_kind,
            Job.failure_message,
            Job.finished_at,
        )
        .outerjoin(Device, Device.id == Job.device_id)
        .where(Job.state == "failed", Job.finished_at > utcnow(-DAY_SECONDS))
    )
    return session.execute(chosen.order_by(Job.finished_at.desc()).limit(limit)).all()


def count_failed_today(session: Session) -> int:
    chosen = select(func.count()).select_from(Job)
    mine = chosen.where(Job.state == "failed", Job.finished_at > utcnow(-DAY_SECONDS))
    return int(session.scalar(mine) or 0)


def campaigns(session: Session, limit: int) -> Sequence[AnyRow]:
    """Newest first: (id, space, device, purpose, state, created)."""
    chosen = (
        select(
            Campaign.id,
            Space.name,
            Device.name,
            Campaign.purpose,
            Campaign.state,
            Campaign.created_at,
        )
        .join(Space, Space.id == Campaign.space_id)
        .join(Device, Device.id == Campaign.device_id)
    )
    return session.execute(chosen.order_by(Campaign.id.desc()).limit(limit)).all()


def predictors(session: Session, limit: int) -> Sequence[AnyRow]:
    """Newest first: (id, space, device, runtime, version, current, sidecar, created)."""
    chosen = (
        select(
            StoredPredictor.id,
            Space.name,
            Device.name,
            Target.runtime_key,
            StoredPredictor.version,
            Target.is_current,
            StoredPredictor.sidecar,
            StoredPredictor.created_at,
        )
        .join(Space, Space.id == StoredPredictor.space_id)
        .join(Target, Target.id == StoredPredictor.target_id)
        .join(Device, Device.id == Target.device_id)
    )
    return session.execute(chosen.order_by(StoredPredictor.id.desc()).limit(limit)).all()


def runs(session: Session, limit: int) -> Sequence[AnyRow]:
    """Newest first: (id, name, method, budget in ms, created)."""
    chosen = select(Run.id, Run.name, Run.method, Run.budget_ms, Run.created_at)
    return session.execute(chosen.order_by(Run.id.desc()).limit(limit)).all()


def totals(session: Session) -> dict[str, int]:
    """How many rows of each kind there are."""
    keys = {
        "campaigns": Campaign.id,
        "measurements": Measurement.id,
        "predictors": StoredPredictor.id,
        "runs": Run.id,
    }
    counts = [select(func.count(key)).scalar_subquery() for key in keys.values()]
    row = session.execute(select(*counts)).one()
    return dict(zip(keys, row, strict=True))
