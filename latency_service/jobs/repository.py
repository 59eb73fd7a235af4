"""All SQL about jobs and attempts: the queue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Row,
    Select,
    and_,
    exists,
    func,
    select,
    update,
)
from sqlalchemy import insert as sql_insert
from sqlalchemy.orm import Session, selectinload

from latency_service.db.base import new_id, utcnow
from latency_service.devices.identity import INSTANCE
from latency_service.devices.models import Agent
from latency_service.jobs import statements
from latency_service.jobs.facts import AttemptFacts, Claimed, Held, JobFacts, JobSpec
from latency_service.jobs.models import Attempt, Job

_INSERTED_AT_ONCE = 500


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
    #: Whether the agent's device is quarantined until its canaries have recovered.
    is_on_trial: bool
    #: Whether any agent's lease has run out by the database's clock.
    expired: bool


def job(session: Session, job_id: str) -> Job | None:
    return session.scalar(select(Job).where(Job.id == job_id).options(selectinload(Job.attempts)))


def insert(session: Session, rows: Sequence[Mapping[str, Any]]) -> None:
    """Queue jobs, given by their columns: many at once, since other writers wait meanwhile."""
    for start in range(0, len(rows), _INSERTED_AT_ONCE):
        session.execute(sql_insert(Job), rows[start : start + _INSERTED_AT_ONCE])


def lock_job(session: Session, job_id: str) -> JobFacts:
    """The job as it is now, held until the transaction ends, its campaign before it.

    Everybody locks in this order (campaign, job, attempt, device): nobody waits in a circle.
    """
    campaign_id = session.scalar(select(Job.campaign_id).where(Job.id == job_id))
    if campaign_id is not None:
        session.execute(statements.LOCK_CAMPAIGN, {"its_campaign_id": campaign_id})
    return JobFacts(*session.execute(statements.LOCK_JOB, {"its_job_id": job_id}).one())


def lock_attempt(session: Session | Connection, attempt_id: str) -> Held | None:
    """An attempt and its job as they are now and stay until the transaction ends; held in the order
    of `lock_job`.
    """
    parameters = {"its_attempt_id": attempt_id}
    row = session.execute(statements.LOCK_ATTEMPT, parameters).one_or_none()
    if row is None:
        return None
    own = len(JobFacts._fields)
    return Held(JobFacts(*row[:own]), AttemptFacts(*row[own:-1]), row[-1])


def look_at_attempt(connection: Connection, attempt_id: str) -> AttemptFacts | None:
    """The attempt as it is now."""
    parameters = {"its_attempt_id": attempt_id}
    row = connection.execute(statements.LOOK_AT_ATTEMPT, parameters).one_or_none()
    return None if row is None else AttemptFacts(*row)


def spec_of_attempt(connection: Connection, attempt_id: str) -> tuple[JobSpec, str] | None:
    """What an attempt is to do, and the agent that does it."""
    parameters = {"its_attempt_id": attempt_id}
    row = connection.execute(statements.SPEC_OF_ATTEMPT, parameters).one_or_none()
    return None if row is None else (JobSpec(*row[:-1]), row[-1])


def outlook(connection: Connection, agent_id: str, still_seconds: float) -> Outlook:
    """Whether it is worth claiming; `still_seconds` as for `claim`."""
    parameters = {"its_agent_id": agent_id, "still_seconds": still_seconds}
    row = connection.execute(statements.OUTLOOK, parameters).one()
    return Outlook(
        claimant=Claimant(agent_id, row.device_id, row.max_opset, row.providers),
        is_busy=row.is_busy,
        runnable=row.runnable,
        unrunnable=row.unrunnable,
        is_on_trial=row.is_on_trial,
        expired=row.expired,
    )


def claim(
    session: Session, claimant: Claimant, lease_seconds: float, still_seconds: float
) -> Claimed | None:
    """Take the next job that the claimant can run, by one conditional update, and open an attempt
    at it. Nothing for one that holds an open attempt.

    Args:
        still_seconds: how long a device must have had nothing to measure before a predictor of it
            is updated.

    Raises:
        IntegrityError: the claimant has just opened another attempt.
    """
    connection = session.connection()
    taking = statements.CLAIM_FOR_DEVICE if claimant.device_id else statements.CLAIM_TRAINING
    parameters = {"its_agent_id": claimant.id, "still_seconds": still_seconds}
    row = connection.execute(taking, parameters).one_or_none()
    if row is None:
        return None
    attempt = {"id": new_id(), "job_id": row.id, "agent_id": claimant.id}
    opening = {**attempt, "number": row.attempts_used, "lease_seconds": lease_seconds}
    connection.execute(statements.OPEN_ATTEMPT, opening)
    return _claimed(row, attempt["id"])


def claim_at_once(connection: Connection, agent_id: str, lease_seconds: float) -> Claimed | None:
    """What `claim` does for an agent of a device, in one statement of PostgreSQL; nothing for a
    trainer.

    Raises:
        IntegrityError: the agent has just opened another attempt.
    """
    attempt_id = new_id()
    parameters = {
        "its_agent_id": agent_id,
        "its_attempt_id": attempt_id,
        "lease_seconds": lease_seconds,
    }
    row = statements.CLAIM_AT_ONCE.execute(connection, parameters).one_or_none()
    return None if row is None else _claimed(row, attempt_id)


def _claimed(row: Row[Any], attempt_id: str) -> Claimed:
    own = len(JobSpec._fields)
    return Claimed(JobSpec(*row[:own]), attempt_id, *row[own:])


def may_fetch(session: Session, agent_id: str | None, condition: ColumnElement[bool]) -> bool:
    """Whether an agent holds an attempt at a job that meets `condition`; users (None) need none."""
    held = exists().where(
        Attempt.agent_id == agent_id,
        Attempt.state == "open",
        Attempt.job_id == Job.id,
        condition,
    )
    return agent_id is None or bool(session.scalar(select(held)))


def devices_with_work(connection: Connection) -> Sequence[str]:
    """Devices for which a job is queued, by one step in the index for each of them."""
    return connection.scalars(statements.DEVICES_WITH_WORK).all()


def seconds_left(connection: Connection) -> dict[OpenLease, float]:
    """Open leases and how long they last by the database's clock."""
    rows = connection.execute(statements.OPEN_LEASES).all()
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


def heartbeat_view(connection: Connection, agent_id: str, attempt_id: str | None) -> HeartbeatView:
    """What the service knows of an agent and the attempt that it reports."""
    parameters = {"its_agent_id": agent_id, "its_attempt_id": attempt_id}
    row = connection.execute(statements.HEARTBEAT, parameters).one()
    return HeartbeatView(instance=row.facts.get(INSTANCE), is_open=row.is_open)


def renew(connection: Connection, attempt_id: str, lease_seconds: float) -> bool:
    """Prolong an open attempt; whether it was open."""
    chosen = update(Attempt).where(Attempt.id == attempt_id, Attempt.state == "open")
    renewed = chosen.values(expires_at=utcnow(lease_seconds)).returning(Attempt.id)
    return connection.scalar(renewed) is not None


def open_attempts_of_agent(session: Session, agent_id: str) -> Sequence[str]:
    return session.scalars(
        select(Attempt.id).where(Attempt.agent_id == agent_id, Attempt.state == "open")
    ).all()


def open_attempts_of_device(session: Session, device_id: str) -> Sequence[str]:
    """In the order of their jobs, in which everybody locks several of them."""
    mine = Attempt.agent_id.in_(agents_of(device_id))
    chosen = select(Attempt.id).where(mine, Attempt.state == "open")
    return session.scalars(chosen.order_by(Attempt.job_id)).all()


def agents_of(device_id: str) -> Select[str]:
    return select(Agent.id).where(Agent.device_id == device_id)


def open_attempt_of_job(session: Session, job_id: str) -> str | None:
    return session.scalar(
        select(Attempt.id).where(Attempt.job_id == job_id, Attempt.state == "open")
    )


def tally(session: Session, campaign_id: str) -> dict[tuple[str, str], int]:
    """How many jobs of the campaign are in each (stage, state)."""
    grouped = select(Job.stage, Job.state, func.count()).where(Job.campaign_id == campaign_id)
    rows = session.execute(grouped.group_by(Job.stage, Job.state)).all()
    return {(str(stage), state): count for stage, state, count in rows}


def has_open_jobs(session: Session, campaign_id: str, stage: str) -> bool:
    """Whether a job of that stage of the campaign waits or is worked on."""
    parameters = {"its_campaign_id": campaign_id, "its_stage": stage}
    return session.scalar(statements.OPEN_JOB_OF_STAGE, parameters) is not None


def jobs_of(session: Session, campaign_id: str, stage: str) -> Sequence[Job]:
    chosen = select(Job).where(Job.campaign_id == campaign_id, Job.stage == stage)
    return session.scalars(chosen.order_by(Job.position)).all()


def waiting_of_devices(session: Session, device_ids: Sequence[str]) -> dict[str, int]:
    """Number of jobs that wait for each of the devices; those without any are left out."""
    chosen = select(Job.device_id, func.count()).where(
        Job.state == "queued", Job.device_id.in_(device_ids)
    )
    return {str(row[0]): row[1] for row in session.execute(chosen.group_by(Job.device_id))}


def open_jobs_of(session: Session, campaign_id: str) -> Sequence[Job]:
    chosen = select(Job).where(Job.campaign_id == campaign_id, Job.state.in_(("queued", "leased")))
    return session.scalars(chosen.order_by(Job.id).with_for_update()).all()


def has_training(
    session: Session, space_id: str, target_id: str, states: Sequence[str] = ("queued",)
) -> bool:
    """Whether a training for the space on the target waits in the queue, or is in another of these
    states.
    """
    waits = exists().where(
        Job.kind == "train",
        Job.state.in_(states),
        Job.space_id == space_id,
        Job.target_id == target_id,
    )
    return bool(session.scalar(select(waits)))


def open_trainings(session: Session, target_ids: Sequence[str]) -> Sequence[str]:
    """Training jobs for these targets that have not ended."""
    chosen = select(Job.id).where(Job.kind == "train", Job.target_id.in_(target_ids))
    return session.scalars(chosen.where(Job.state.in_(("queued", "leased"))).order_by(Job.id)).all()


def count_by_state(session: Session, device_id: str | None = None) -> dict[str, int]:
    """Number of jobs in each state, of one device or of all and of trainers."""
    grouped = select(Job.state, func.count()).group_by(Job.state)
    if device_id is not None:
        grouped = grouped.where(Job.device_id == device_id)
    return {row[0]: row[1] for row in session.execute(grouped)}


def _within_reach(agent: Claimant) -> ColumnElement[bool]:
    return and_(Job.opset <= agent.max_opset, Job.provider.in_(agent.providers))
