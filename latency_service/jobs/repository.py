"""All SQL about jobs and attempts: the queue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Float,
    Integer,
    Select,
    String,
    and_,
    bindparam,
    exists,
    false,
    func,
    insert,
    inspect,
    not_,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session, aliased, selectinload
from sqlalchemy.sql.dml import ReturningUpdate

from latency_service.db.base import new_id, utcnow
from latency_service.devices.identity import INSTANCE
from latency_service.devices.models import Agent, Target
from latency_service.jobs.models import Attempt, Job

DEVICE_KINDS = ("measure", "verify")
TRAINER_KINDS = ("train",)
#: Longest time that a predictor's update waits for a device that is never idle.
LONGEST_WAIT_SECONDS = 600.0


class Claimant(NamedTuple):
    """An agent or a trainer as the queue sees it."""

    id: str
    #: None for a trainer.
    device_id: str | None
    max_opset: int
    providers: Sequence[str]


class OpenLease(NamedTuple):
    """The lease of an open attempt. A renewal makes it another one."""

    attempt_id: str
    expires_at: datetime


class HeartbeatView(NamedTuple):
    """What the service knows of an agent that reports."""

    #: Process that has registered as this agent last.
    instance: str | None
    #: Whether the attempt that it reports is its own and open.
    is_open: bool


@dataclass(frozen=True, kw_only=True)
class Outlook:
    """What a look at the queue, without touching it, shows an agent."""

    claimant: Claimant
    #: Whether it holds an open attempt.
    is_busy: bool
    #: Whether a job waits that the agent can run.
    runnable: bool
    #: Whether a job waits for its device that the agent cannot run.
    unrunnable: bool
    #: Whether any agent's lease has run out by the database's clock.
    expired: bool


def job(session: Session, job_id: str) -> Job | None:
    return session.scalar(select(Job).where(Job.id == job_id).options(selectinload(Job.attempts)))


def lock_job(session: Session, job_id: str) -> Job:
    """The job as it is now, held until the transaction ends, its campaign before it.

    Everybody locks in this order (campaign, job, device), so that nobody waits in a circle.
    """
    campaign_id = session.scalar(select(Job.campaign_id).where(Job.id == job_id))
    return _lock(session, job_id, campaign_id)


def lock_attempt(session: Session, attempt_id: str) -> tuple[Job, Attempt] | None:
    """An attempt and its job as they are now, the job held as by `lock_job`."""
    chosen = session.execute(_JOB_OF_ATTEMPT, {"its_attempt_id": attempt_id}).one_or_none()
    if chosen is None:
        return None
    job = _lock(session, chosen.job_id, chosen.campaign_id)
    # after the job was locked: whoever held it before may have ended the attempt
    attempt = session.scalars(
        _ATTEMPT, {"its_attempt_id": attempt_id}, execution_options=_FRESH
    ).one()
    return job, attempt


def _lock(session: Session, job_id: str, campaign_id: str | None) -> Job:
    if campaign_id is not None:
        _lock_campaign_of(session, campaign_id)
    return session.scalars(_LOCK_JOB, {"its_job_id": job_id}, execution_options=_FRESH).one()


def _lock_campaign_of(session: Session, campaign_id: str) -> None:
    """Hold the row that `Job.campaign_id` refers to."""
    (reference,) = inspect(Job).columns.campaign_id.foreign_keys
    key = reference.column
    session.execute(select(key).where(key == campaign_id).with_for_update())


def outlook(connection: Connection, agent_id: str, still_seconds: float) -> Outlook:
    """Whether it is worth claiming; `still_seconds` as for `claim`."""
    row = connection.execute(_CLAIMANT, {"its_agent_id": agent_id}).one()
    claimant = Claimant(agent_id, row.device_id, row.max_opset, row.providers)
    waiting = _DEVICE_WORK if claimant.device_id else _TRAINING
    found = connection.execute(waiting, _parameters(claimant, still_seconds=still_seconds)).one()
    return Outlook(
        claimant=claimant,
        is_busy=row.is_busy,
        runnable=found.runnable,
        unrunnable=found.unrunnable,
        expired=row.expired,
    )


def claim(
    session: Session, claimant: Claimant, lease_seconds: float, still_seconds: float
) -> tuple[Job, Attempt] | None:
    """Take the next job that the claimant can run, by one conditional update, and open an attempt
    at it. Nothing for one that holds an open attempt.

    Args:
        still_seconds: how long a device must have had nothing to measure before a predictor of it
            is updated.

    Raises:
        IntegrityError: the claimant has just opened another attempt.
    """
    taking = _CLAIM_FOR_DEVICE if claimant.device_id else _CLAIM_TRAINING
    job = session.scalars(
        taking,
        _parameters(claimant, still_seconds=still_seconds),
        execution_options=_FRESH | {"synchronize_session": False},
    ).one_or_none()
    if job is None:
        return None
    attempt = Attempt(id=new_id(), job_id=job.id, agent_id=claimant.id, number=job.attempts_used)
    session.execute(
        _OPEN_ATTEMPT,
        {
            "id": attempt.id,
            "job_id": job.id,
            "agent_id": claimant.id,
            "number": job.attempts_used,
            "lease_seconds": lease_seconds,
        },
    )
    return job, attempt


def devices_with_work(connection: Connection) -> Sequence[str]:
    """Devices for which a job is queued, by one step in the index for each of them."""
    return connection.scalars(_DEVICES_WITH_WORK).all()


def seconds_left(connection: Connection) -> dict[OpenLease, float]:
    """Open leases and how long they last by the database's clock."""
    rows = connection.execute(_OPEN_LEASES).all()
    return {
        OpenLease(row.id, row.expires_at): (row.expires_at - row.now).total_seconds()
        for row in rows
    }


def unrunnable_jobs(session: Session, agent: Claimant) -> Sequence[Job]:
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


def heartbeat_view(connection: Connection, agent_id: str, attempt_id: str | None) -> HeartbeatView:
    """What the service knows of an agent and the attempt that it reports."""
    parameters = {"its_agent_id": agent_id, "its_attempt_id": attempt_id}
    row = connection.execute(_HEARTBEAT, parameters).one()
    return HeartbeatView(instance=row.facts.get(INSTANCE), is_open=row.is_open)


def renew(session: Session, attempt_id: str, lease_seconds: float) -> bool:
    """Prolong an open attempt; whether it was open."""
    chosen = update(Attempt).where(Attempt.id == attempt_id, Attempt.state == "open")
    renewed = chosen.values(expires_at=utcnow(lease_seconds)).returning(Attempt.id)
    return session.scalar(renewed.execution_options(synchronize_session=False)) is not None


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


def count_by_state(session: Session) -> dict[str, int]:
    rows = session.execute(select(Job.state, func.count()).group_by(Job.state)).all()
    return {row[0]: row[1] for row in rows}


def _within_reach(agent: Claimant) -> ColumnElement[bool]:
    return and_(Job.opset <= agent.max_opset, Job.provider.in_(agent.providers))


def _is_timely() -> ColumnElement[bool]:
    """Whether a training is for a campaign, which waits for it, or the device that it is about is
    still: a pruning job measures one structure after the other, one update serves them all, and a
    trainer on the device disturbs it.
    """
    other = aliased(Job)
    measured_lately = or_(
        other.state.in_(("queued", "leased")), other.finished_at > utcnow(-_STILL)
    )
    busy = exists().where(
        Target.id == Job.target_id, other.device_id == Target.device_id, measured_lately
    )
    return or_(Job.campaign_id.is_not(None), Job.created_at <= utcnow(-LONGEST_WAIT_SECONDS), ~busy)


def _parameters(claimant: Claimant, *, still_seconds: float) -> dict[str, object]:
    if claimant.device_id is None:
        return {"its_agent_id": claimant.id, "still_seconds": still_seconds}
    return {
        "its_agent_id": claimant.id,
        "its_device_id": claimant.device_id,
        "newest_opset": claimant.max_opset,
        "offered_providers": list(claimant.providers),
    }


# Statements of the hot path are built once: building one takes longer than running it.

_AGENT = bindparam("its_agent_id", type_=String())
#: What is read replaces what the session remembers.
_FRESH = {"populate_existing": True}
_ITS_ATTEMPT = Attempt.id == bindparam("its_attempt_id", type_=String())
_JOB_OF_ATTEMPT = select(Attempt.job_id, Job.campaign_id).join(Job).where(_ITS_ATTEMPT)
_ATTEMPT = select(Attempt).where(_ITS_ATTEMPT)
_LOCK_JOB = select(Job).where(Job.id == bindparam("its_job_id", type_=String())).with_for_update()
_STILL = bindparam("still_seconds", type_=Float())
_IS_BUSY = exists().where(Attempt.agent_id == _AGENT, Attempt.state == "open")
_HEARTBEAT = select(
    Agent.facts,
    exists()
    .where(
        _ITS_ATTEMPT,
        Attempt.agent_id == _AGENT,
        Attempt.state == "open",
    )
    .label("is_open"),
).where(Agent.id == _AGENT)
_EXPIRED = exists().where(Attempt.state == "open", Attempt.expires_at <= utcnow())
_CLAIMANT = select(
    Agent.device_id,
    Agent.max_opset,
    Agent.providers,
    _IS_BUSY.label("is_busy"),
    _EXPIRED.label("expired"),
).where(Agent.id == _AGENT)

_REACHED = and_(
    Job.opset <= bindparam("newest_opset", type_=Integer()),
    Job.provider.in_(bindparam("offered_providers", expanding=True)),
)
_OF_DEVICE = and_(
    Job.state == "queued",
    Job.device_id == bindparam("its_device_id", type_=String()),
    Job.kind.in_(DEVICE_KINDS),
)
_TRAINABLE = and_(Job.state == "queued", Job.kind.in_(TRAINER_KINDS), _is_timely())
_DEVICE_WORK = select(
    exists().where(_OF_DEVICE, _REACHED).label("runnable"),
    exists().where(_OF_DEVICE, not_(_REACHED)).label("unrunnable"),
)
_TRAINING = select(exists().where(_TRAINABLE).label("runnable"), false().label("unrunnable"))


def _claim(condition: ColumnElement[bool]) -> ReturningUpdate[tuple[Job]]:
    """The conditional update that takes the first job under a condition."""
    candidate = (
        select(Job.id)
        .where(condition)
        .order_by(Job.priority, Job.created_at, Job.position, Job.id)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    taken = update(Job).where(Job.id == candidate, Job.state == "queued", not_(_IS_BUSY))
    return taken.values(state="leased", attempts_used=Job.attempts_used + 1).returning(Job)


_CLAIM_FOR_DEVICE = _claim(and_(_OF_DEVICE, _REACHED))
_CLAIM_TRAINING = _claim(_TRAINABLE)
_OPEN_ATTEMPT = insert(Attempt.__table__).values(
    state="open",
    leased_at=utcnow(),
    expires_at=utcnow(bindparam("lease_seconds", type_=Float())),
)
_OPEN_LEASES = select(Attempt.id, Attempt.expires_at, utcnow().label("now")).where(
    Attempt.state == "open"
)


def _stepwise() -> Select[tuple[str]]:
    waits = and_(Job.state == "queued", Job.device_id.is_not(None))
    first = select(func.min(Job.device_id).label("device_id")).where(waits)
    steps = first.cte("steps", recursive=True)
    following = select(func.min(Job.device_id)).where(waits, Job.device_id > steps.c.device_id)
    steps = steps.union_all(
        select(following.scalar_subquery()).where(steps.c.device_id.is_not(None))
    )
    return select(steps.c.device_id).where(steps.c.device_id.is_not(None))


_DEVICES_WITH_WORK = _stepwise()
