"""All SQL about jobs and attempts: the queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func, inspect, or_, select, update
from sqlalchemy import insert as sql_insert
from sqlalchemy.orm import Session, aliased, selectinload

from latency_service.db.base import utcnow
from latency_service.devices.models import Agent, Target
from latency_service.jobs import checks
from latency_service.jobs.models import Attempt, Job

DEVICE_KINDS = ("measure", "verify")
TRAINER_KINDS = ("train",)
#: Longest time that a predictor's update waits for a device that is never idle.
LONGEST_WAIT_SECONDS = 600.0
_INSERTED_AT_ONCE = 500


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What a look at the queue, without touching it, shows an agent."""

    #: Whether a job waits that the agent can run.
    runnable: bool
    #: Whether a job waits for its device that the agent cannot run.
    unrunnable: bool
    #: Whether any agent's lease has run out.
    expired: bool


def job(session: Session, job_id: str) -> Job | None:
    return session.scalar(select(Job).where(Job.id == job_id).options(selectinload(Job.attempts)))


def insert(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    """Queue jobs, given by their columns: many at once, since other writers wait meanwhile."""
    for start in range(0, len(rows), _INSERTED_AT_ONCE):
        session.execute(sql_insert(Job), rows[start : start + _INSERTED_AT_ONCE])


def lock_job(session: Session, job_id: str) -> Job:
    """The job as it is now, held until the transaction ends, its campaign before it.

    Everybody locks in this order (campaign, job, device), so that nobody waits in a circle.
    """
    campaign_id = session.scalar(select(Job.campaign_id).where(Job.id == job_id))
    if campaign_id is not None:
        _lock_campaign_of(session, campaign_id)
    chosen = select(Job).where(Job.id == job_id).with_for_update()
    return session.scalars(chosen, execution_options={"populate_existing": True}).one()


def _lock_campaign_of(session: Session, campaign_id: str) -> None:
    """Hold the row that `Job.campaign_id` refers to."""
    (reference,) = inspect(Job).columns.campaign_id.foreign_keys
    key = reference.column
    session.execute(select(key).where(key == campaign_id).with_for_update())


def outlook(session: Session, agent: Agent, still_seconds: float) -> Outlook:
    """Whether it is worth claiming, in one read; `still_seconds` as for `claim`."""
    queued = select(Job.id).where(Job.state == "queued")
    expired = exists().where(Attempt.state == "open", Attempt.expires_at <= utcnow())
    runnable = exists(queued.where(*_for_agent(agent, still_seconds)))
    unrunnable = exists(queued.where(Job.device_id == agent.device_id, ~_within_reach(agent)))
    row = session.execute(select(runnable, unrunnable, expired)).one()
    return Outlook(runnable=row[0], unrunnable=row[1], expired=row[2])


def claim(
    session: Session, agent: Agent, lease_seconds: float, still_seconds: float
) -> tuple[Job, Attempt] | None:
    """Take the next job that the agent can run, by one conditional update, and open an attempt at
    it.

    Args:
        still_seconds: how long a device must have had nothing to measure before a predictor of it
            is updated.
    """
    candidate = (
        select(Job.id)
        .where(Job.state == "queued", *_for_agent(agent, still_seconds))
        .order_by(Job.priority, Job.created_at, Job.position, Job.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    taken = (
        update(Job)
        .where(Job.id == candidate, Job.state == "queued")
        .values(state="leased", attempts_used=Job.attempts_used + 1)
        .returning(Job)
        .execution_options(synchronize_session=False, populate_existing=True)
    )
    job = session.scalars(taken).one_or_none()
    if job is None:
        return None
    attempt = Attempt(
        job_id=job.id, agent_id=agent.id, number=job.attempts_used, expires_at=utcnow(lease_seconds)
    )
    session.add(attempt)
    session.flush()
    return job, attempt


def may_fetch(session: Session, agent_id: str | None, condition: ColumnElement[bool]) -> bool:
    """Whether an agent holds an attempt at a job that meets `condition`; users (None) need none."""
    held = exists().where(
        Attempt.agent_id == agent_id,
        Attempt.state == "open",
        Attempt.job_id == Job.id,
        condition,
    )
    return agent_id is None or bool(session.scalar(select(held)))


def unrunnable_jobs(session: Session, agent: Agent) -> Sequence[Job]:
    """Jobs that wait for the agent's device and that this agent cannot run."""
    chosen = select(Job).where(
        Job.state == "queued", Job.device_id == agent.device_id, ~_within_reach(agent)
    )
    return session.scalars(chosen).all()


def attempt(session: Session, attempt_id: str) -> Attempt | None:
    return session.scalar(
        select(Attempt).where(Attempt.id == attempt_id).execution_options(populate_existing=True)
    )


def lease_ran_out(session: Session, attempt_id: str) -> bool:
    return bool(
        session.scalar(select(Attempt.expires_at <= utcnow()).where(Attempt.id == attempt_id))
    )


def renew(session: Session, attempt_id: str, lease_seconds: float) -> bool:
    """Prolong an open attempt; whether it was open."""
    chosen = update(Attempt).where(Attempt.id == attempt_id, Attempt.state == "open")
    renewed = chosen.values(expires_at=utcnow(lease_seconds)).returning(Attempt.id)
    return session.scalar(renewed.execution_options(synchronize_session=False)) is not None


def expired_attempts(session: Session) -> Sequence[str]:
    chosen = select(Attempt.id).where(Attempt.state == "open", Attempt.expires_at <= utcnow())
    return session.scalars(chosen.order_by(Attempt.expires_at)).all()


def open_attempts_of_agent(session: Session, agent_id: str) -> Sequence[str]:
    return session.scalars(
        select(Attempt.id).where(Attempt.agent_id == agent_id, Attempt.state == "open")
    ).all()


def open_attempts_of_device(session: Session, device_id: str) -> Sequence[str]:
    mine = select(Agent.id).where(Agent.device_id == device_id)
    return session.scalars(
        select(Attempt.id).where(Attempt.agent_id.in_(mine), Attempt.state == "open")
    ).all()


def open_attempt_of_job(session: Session, job_id: str) -> Attempt | None:
    return session.scalar(select(Attempt).where(Attempt.job_id == job_id, Attempt.state == "open"))


def tally(session: Session, campaign_id: str) -> dict[tuple[str, str], int]:
    """How many jobs of the campaign are in each (stage, state)."""
    grouped = select(Job.stage, Job.state, func.count()).where(Job.campaign_id == campaign_id)
    rows = session.execute(grouped.group_by(Job.stage, Job.state)).all()
    return {(str(stage), state): count for stage, state, count in rows}


def jobs_of(session: Session, campaign_id: str, stage: str) -> Sequence[Job]:
    chosen = select(Job).where(Job.campaign_id == campaign_id, Job.stage == stage)
    return session.scalars(chosen.order_by(Job.position)).all()


def open_jobs_of(session: Session, campaign_id: str) -> Sequence[Job]:
    chosen = select(Job).where(Job.campaign_id == campaign_id, Job.state.in_(("queued", "leased")))
    return session.scalars(chosen.order_by(Job.id).with_for_update()).all()


def is_training_queued(session: Session, space_id: str, target_id: str) -> bool:
    """Whether a training for the space on the target waits in the queue."""
    waits = exists().where(
        Job.kind == "train",
        Job.state == "queued",
        Job.space_id == space_id,
        Job.target_id == target_id,
    )
    return bool(session.scalar(select(waits)))


def open_trainings(session: Session, target_ids: Sequence[str]) -> Sequence[str]:
    """Training jobs for these targets that have not ended."""
    chosen = select(Job.id).where(Job.kind == "train", Job.target_id.in_(target_ids))
    return session.scalars(chosen.where(Job.state.in_(("queued", "leased"))).order_by(Job.id)).all()


def _within_reach(agent: Agent) -> ColumnElement[bool]:
    return and_(Job.opset <= agent.max_opset, Job.provider.in_(agent.providers))


def _for_agent(agent: Agent, still_seconds: float) -> list[ColumnElement[bool]]:
    if agent.device_id is None:
        return [Job.kind.in_(TRAINER_KINDS), _is_timely(still_seconds)]
    return [
        Job.device_id == agent.device_id,
        Job.kind.in_(DEVICE_KINDS),
        _within_reach(agent),
        checks.is_permitted(agent),
    ]


def _is_timely(still_seconds: float) -> ColumnElement[bool]:
    """Whether a training is for a campaign, which waits for it, or the device that it is about is
    still: a pruning job measures one structure after the other, one update serves them all, and a
    trainer on the device disturbs it.
    """
    other = aliased(Job)
    measured_lately = or_(
        other.state.in_(("queued", "leased")), other.finished_at > utcnow(-still_seconds)
    )
    busy = exists().where(
        Target.id == Job.target_id, other.device_id == Target.device_id, measured_lately
    )
    return or_(Job.campaign_id.is_not(None), Job.created_at <= utcnow(-LONGEST_WAIT_SECONDS), ~busy)
