"""All SQL about the places of jobs in the queue of their device."""

from __future__ import annotations

from sqlalchemy import and_, func, literal, or_, select, tuple_
from sqlalchemy.orm import Session

from latency_service.jobs import repository, statements
from latency_service.jobs.models import Attempt, Job


def next_queued(session: Session, campaign_id: str) -> Job | None:
    """The campaign's job that is given out next."""
    chosen = select(Job).where(Job.campaign_id == campaign_id, Job.state == "queued")
    return session.scalars(chosen.order_by(*statements.QUEUE_ORDER).limit(1)).one_or_none()


def count_queued(session: Session, campaign_id: str) -> int:
    """Number of the campaign's jobs that wait."""
    waiting = select(func.count()).where(Job.campaign_id == campaign_id, Job.state == "queued")
    return session.scalar(waiting) or 0


def count_ahead(session: Session, job: Job) -> int:
    """Number of jobs that the device of a waiting job works on, or does before it."""
    own = tuple_(*(literal(getattr(job, key.key), key.type) for key in statements.QUEUE_ORDER))
    before = and_(Job.state == "queued", tuple_(*statements.QUEUE_ORDER) < own)
    mine = select(func.count()).where(Job.device_id == job.device_id)
    return session.scalar(mine.where(or_(Job.state == "leased", before))) or 0


def recent_seconds(session: Session, device_id: str, most: int) -> list[float]:
    """Durations of the device's newest attempts that brought a result, s."""
    ended = select(Attempt.leased_at, Attempt.finished_at)
    # by its agents: their attempts are read newest first from an index, and no more than `most`
    ended = ended.where(
        Attempt.agent_id.in_(repository.agents_of(device_id)), Attempt.state == "done"
    )
    rows = session.execute(ended.order_by(Attempt.leased_at.desc()).limit(most)).all()
    return [(row.finished_at - row.leased_at).total_seconds() for row in rows if row.finished_at]
