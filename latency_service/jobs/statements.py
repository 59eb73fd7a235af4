"""Statements of the queue's hot path, built once: building one takes longer than running it."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    Float,
    Integer,
    Select,
    String,
    Table,
    and_,
    bindparam,
    case,
    exists,
    false,
    func,
    insert,
    not_,
    or_,
    select,
    update,
)
from sqlalchemy.orm import aliased
from sqlalchemy.sql.dml import ReturningUpdate

from latency_service.db.base import json_texts, utcnow
from latency_service.devices.models import Agent, Target
from latency_service.jobs import checks
from latency_service.jobs.models import Attempt, Job

#: Longest time that a predictor's update waits for a device that is never idle.
LONGEST_WAIT_SECONDS = 600.0
#: Order in which jobs are given out.
QUEUE_ORDER = (Job.priority, Job.created_at, Job.position, Job.id)

JOBS = cast("Table", Job.__table__)
ATTEMPTS = cast("Table", Attempt.__table__)
AGENT = bindparam("its_agent_id", type_=String())
#: What is read replaces what the session remembers.
FRESH = {"populate_existing": True}
ITS_ATTEMPT = Attempt.id == bindparam("its_attempt_id", type_=String())
JOB_OF_ATTEMPT = select(Attempt.job_id, Job.campaign_id).join(Job).where(ITS_ATTEMPT)
#: Held against renewals, which hold no job; rows may refer to it meanwhile.
LOCK_ATTEMPT = select(Attempt).where(ITS_ATTEMPT).with_for_update(key_share=True)
LOCK_JOB = select(Job).where(Job.id == bindparam("its_job_id", type_=String())).with_for_update()
#: Columns that the end of an attempt may fill.
ENDING = ("failure_kind", "message", "log_tail", "digest", "wall_seconds", "timed_seconds")
END_ATTEMPT = (
    update(ATTEMPTS)
    .where(ITS_ATTEMPT)
    .values(
        state=bindparam("end_state"),
        finished_at=utcnow(),
        **{name: bindparam(f"end_{name}") for name in ENDING},
    )
)
END_JOB = (
    update(JOBS)
    .where(Job.id == bindparam("its_job_id"))
    .values(
        state=bindparam("end_state"),
        finished_at=utcnow(),
        failure_kind=bindparam("end_failure_kind"),
        failure_message=bindparam("end_failure_message"),
        failure_log=bindparam("end_failure_log"),
    )
)
STILL = bindparam("still_seconds", type_=Float())
IS_BUSY = exists().where(Attempt.agent_id == AGENT, Attempt.state == "open")
HEARTBEAT = select(
    Agent.facts,
    exists()
    .where(
        ITS_ATTEMPT,
        Attempt.agent_id == AGENT,
        Attempt.state == "open",
    )
    .label("is_open"),
).where(Agent.id == AGENT)
EXPIRED = exists().where(Attempt.state == "open", Attempt.expires_at <= utcnow())
REACHED = and_(
    Job.opset <= bindparam("newest_opset", type_=Integer()),
    Job.provider.in_(bindparam("offered_providers", expanding=True)),
)
ITS_DEVICE = bindparam("its_device_id", type_=String())
OF_DEVICE = and_(
    Job.state == "queued", Job.device_id == ITS_DEVICE, checks.is_permitted(ITS_DEVICE)
)


def _is_timely() -> ColumnElement[bool]:
    """Whether a training is for a campaign, which waits for it, or the device that it is about is
    still: a pruning job measures one structure after the other, one update serves them all, and a
    trainer on the device disturbs it.
    """
    other = aliased(Job)
    measured_lately = or_(other.state.in_(("queued", "leased")), other.finished_at > utcnow(-STILL))
    busy = exists().where(
        Target.id == Job.target_id, other.device_id == Target.device_id, measured_lately
    )
    return or_(Job.campaign_id.is_not(None), Job.created_at <= utcnow(-LONGEST_WAIT_SECONDS), ~busy)


TRAINABLE = and_(Job.state == "queued", Job.device_id.is_(None), _is_timely())


def _outlook() -> Select[*tuple[Any, ...]]:
    """Everything that a poll asks for, in one statement."""
    offered = select(json_texts(Agent.providers)).correlate(Agent).scalar_subquery()
    reached = and_(Job.opset <= Agent.max_opset, Job.provider.in_(offered))
    waiting = and_(Job.state == "queued", Job.device_id == Agent.device_id)
    runnable = exists().where(waiting, reached, checks.is_permitted(Agent.device_id))
    for_device = case((Agent.device_id.is_(None), exists().where(TRAINABLE)), else_=runnable)
    # a queue of jobs that all can be run is not read to its end
    unrunnable = case((runnable, false()), else_=exists().where(waiting, not_(reached)))
    return select(
        Agent.device_id,
        Agent.max_opset,
        Agent.providers,
        IS_BUSY.label("is_busy"),
        EXPIRED.label("expired"),
        for_device.label("runnable"),
        unrunnable.label("unrunnable"),
        checks.is_on_trial(Agent.device_id).label("is_on_trial"),
    ).where(Agent.id == AGENT)


OUTLOOK = _outlook()


def _claim(condition: ColumnElement[bool]) -> ReturningUpdate[Any]:
    """The conditional update that takes the first job under a condition."""
    candidate = (
        select(Job.id)
        .where(condition)
        .order_by(*QUEUE_ORDER)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    taken = update(JOBS).where(Job.id == candidate, Job.state == "queued", not_(IS_BUSY))
    taken = taken.values(state="leased", attempts_used=Job.attempts_used + 1)
    return taken.returning(*JOBS.columns)


CLAIM_FOR_DEVICE = _claim(and_(OF_DEVICE, REACHED))
CLAIM_TRAINING = _claim(TRAINABLE)
OPEN_ATTEMPT = insert(ATTEMPTS).values(
    state="open",
    leased_at=utcnow(),
    expires_at=utcnow(bindparam("lease_seconds", type_=Float())),
)
OPEN_LEASES = select(Attempt.id, Attempt.expires_at, utcnow().label("now")).where(
    Attempt.state == "open"
)


def _stepwise() -> Select[str]:
    waits = and_(Job.state == "queued", Job.device_id.is_not(None))
    first = select(func.min(Job.device_id).label("device_id")).where(waits)
    steps = first.cte("steps", recursive=True)
    following = select(func.min(Job.device_id)).where(waits, Job.device_id > steps.c.device_id)
    steps = steps.union_all(
        select(following.scalar_subquery()).where(steps.c.device_id.is_not(None))
    )
    return select(steps.c.device_id).where(steps.c.device_id.is_not(None))


DEVICES_WITH_WORK = _stepwise()
