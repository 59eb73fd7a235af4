"""Statements of the queue's hot path, built once: building one takes longer than running it."""

from __future__ import annotations

from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    Float,
    Select,
    String,
    Table,
    and_,
    bindparam,
    case,
    column,
    exists,
    false,
    func,
    insert,
    literal_column,
    not_,
    or_,
    select,
    table,
    update,
)
from sqlalchemy.orm import aliased
from sqlalchemy.sql.dml import ReturningUpdate

from latency_service.db.base import json_texts, utcnow
from latency_service.db.prepared import Prepared
from latency_service.devices.models import Agent, Target
from latency_service.jobs import checks
from latency_service.jobs.facts import AttemptFacts, JobFacts, JobSpec
from latency_service.jobs.models import Attempt, Job

#: Longest time that a predictor's update waits for a device that is never idle.
LONGEST_WAIT_SECONDS = 600.0
#: Order in which jobs are given out.
QUEUE_ORDER = (Job.priority, Job.created_at, Job.position, Job.id)


def constant(text: str) -> ColumnElement[str]:
    """A text that is part of the statement and no parameter: the plan of a statement that is run
    again and again uses a partial index only where it sees the index's constant.
    """
    return literal_column(f"'{text}'", String())


QUEUED = constant("queued")
OPEN = constant("open")
JOBS = cast("Table", Job.__table__)
ATTEMPTS = cast("Table", Attempt.__table__)
AGENT = bindparam("its_agent_id", type_=String())
ATTEMPT = bindparam("its_attempt_id", type_=String())
LEASE_SECONDS = bindparam("lease_seconds", type_=Float())
# columns of the tables and not of the classes: the session would look for objects to refresh
ITS_ATTEMPT = ATTEMPTS.c.id == ATTEMPT
_CAMPAIGNS = table("campaigns", column("id", String()))
#: Campaigns are locked before their jobs.
LOCK_CAMPAIGN = (
    select(_CAMPAIGNS.c.id)
    .where(_CAMPAIGNS.c.id == bindparam("its_campaign_id", type_=String()))
    .with_for_update()
)
_ITS_CAMPAIGN = (
    select(_CAMPAIGNS.c.id)
    .join(JOBS, JOBS.c.campaign_id == _CAMPAIGNS.c.id)
    .join(ATTEMPTS, ATTEMPTS.c.job_id == JOBS.c.id)
    .where(ITS_ATTEMPT)
    .with_for_update(of=_CAMPAIGNS)
    .cte("its_campaign")
)
#: Always true, and known before any row of the statement is locked.
_CAMPAIGN_IS_LOCKED = select(func.count()).select_from(_ITS_CAMPAIGN).scalar_subquery() >= 0
ITS_JOB = JOBS.c.id == bindparam("its_job_id", type_=String())
JOB_SPEC = [JOBS.c[name] for name in JobSpec._fields]
JOB_FACTS = [JOBS.c[name] for name in JobFacts._fields]
ATTEMPT_FACTS = [ATTEMPTS.c[name] for name in AttemptFacts._fields]
LOOK_AT_ATTEMPT = select(*ATTEMPT_FACTS).where(ITS_ATTEMPT)
SPEC_OF_ATTEMPT = (
    select(*JOB_SPEC, ATTEMPTS.c.agent_id).select_from(JOBS.join(ATTEMPTS)).where(ITS_ATTEMPT)
)
#: Locks the campaign, the job and then the attempt, against renewals, which hold no job; rows may
#: refer to the latter two meanwhile.
LOCK_ATTEMPT = (
    select(*JOB_FACTS, *ATTEMPT_FACTS, (ATTEMPTS.c.expires_at <= utcnow()).label("ran_out"))
    .select_from(JOBS.join(ATTEMPTS))
    .where(ITS_ATTEMPT, _CAMPAIGN_IS_LOCKED)
    .with_for_update(key_share=True, of=(JOBS, ATTEMPTS))
)
LOCK_JOB = select(*JOB_FACTS).where(ITS_JOB).with_for_update()
OPEN_JOB_OF_STAGE = (
    select(JOBS.c.id)
    .where(
        JOBS.c.campaign_id == bindparam("its_campaign_id", type_=String()),
        JOBS.c.stage == bindparam("its_stage", type_=String()),
        JOBS.c.state.in_((QUEUED, constant("leased"))),
    )
    .limit(literal_column("1"))
)
#: Columns that the end of an attempt may fill.
ENDING = ("failure_kind", "message", "log_tail", "digest", "wall_seconds", "timed_seconds")


def _ended(state: ColumnElement[str]) -> dict[str, ColumnElement[Any]]:
    """Values of an attempt that ends now."""
    brought = {
        name: func.coalesce(bindparam(f"end_{name}", type_=ATTEMPTS.c[name].type), ATTEMPTS.c[name])
        for name in ENDING
    }
    return {"state": state, "finished_at": utcnow(), **brought}


END_ATTEMPT = update(ATTEMPTS).where(ITS_ATTEMPT).values(_ended(bindparam("end_state")))
END_JOB = (
    update(JOBS)
    .where(ITS_JOB)
    .values(
        state=bindparam("end_state"),
        finished_at=utcnow(),
        failure_kind=bindparam("end_failure_kind"),
        failure_message=bindparam("end_failure_message"),
        failure_log=bindparam("end_failure_log"),
    )
)


def _finish() -> ReturningUpdate[Any]:
    """The end of an open attempt of an agent before its lease runs out, with its job, in one
    statement of PostgreSQL. Locks in the order of `LOCK_ATTEMPT`.
    """
    held = (
        select(JOBS.c.id)
        .select_from(JOBS.join(ATTEMPTS))
        .where(ITS_ATTEMPT, JOBS.c.state == constant("leased"), _CAMPAIGN_IS_LOCKED)
        .with_for_update(key_share=True, of=JOBS)
        .cte("held")
    )
    ended = (
        update(ATTEMPTS)
        .where(
            ITS_ATTEMPT,
            ATTEMPTS.c.job_id == held.c.id,
            ATTEMPTS.c.agent_id == AGENT,
            ATTEMPTS.c.state == OPEN,
            ATTEMPTS.c.expires_at > utcnow(),
        )
        .values(_ended(constant("done")))
        .returning(ATTEMPTS.c.job_id)
        .cte("ended")
    )
    nothing = dict.fromkeys(("failure_kind", "failure_message", "failure_log"))
    done = update(JOBS).where(JOBS.c.id == ended.c.job_id)
    return done.values(state="done", finished_at=utcnow(), **nothing).returning(*JOB_FACTS)


FINISH = Prepared(_finish())
REQUEUE = update(JOBS).where(ITS_JOB).values(state="queued")
COUNT_LOST = update(JOBS).where(ITS_JOB).values(attempts_lost=JOBS.c.attempts_lost + 1)
STILL = bindparam("still_seconds", type_=Float())
IS_BUSY = exists().where(Attempt.agent_id == AGENT, Attempt.state == OPEN)
HEARTBEAT = select(
    Agent.facts,
    exists()
    .where(
        ITS_ATTEMPT,
        Attempt.agent_id == AGENT,
        Attempt.state == OPEN,
    )
    .label("is_open"),
).where(Agent.id == AGENT)
EXPIRED = exists().where(Attempt.state == OPEN, Attempt.expires_at <= utcnow())


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


TRAINABLE = and_(Job.state == QUEUED, Job.device_id.is_(None), _is_timely())


def _is_reached() -> ColumnElement[bool]:
    """Whether an agent, of an enclosing statement, can run a job."""
    offered = select(json_texts(Agent.providers)).correlate(Agent).scalar_subquery()
    return and_(Job.opset <= Agent.max_opset, Job.provider.in_(offered))


def _outlook() -> Select[*tuple[Any, ...]]:
    """Everything that a poll asks for, in one statement."""
    waiting = and_(Job.state == QUEUED, Job.device_id == Agent.device_id)
    runnable = exists().where(waiting, _is_reached(), checks.is_permitted(Agent.device_id))
    for_device = case((Agent.device_id.is_(None), exists().where(TRAINABLE)), else_=runnable)
    # a queue of jobs that all can be run is not read to its end
    unrunnable = case((runnable, false()), else_=exists().where(waiting, not_(_is_reached())))
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


def _for_device() -> ColumnElement[bool]:
    """Whether the agent may be given a job that waits.

    Its device is asked for in a subquery, which PostgreSQL takes for a constant: joined to the
    agent's row, all jobs would be sorted.
    """
    device = select(Agent.device_id).where(Agent.id == AGENT).scalar_subquery()
    return and_(
        Job.state == QUEUED,
        Job.device_id == device,
        exists().where(Agent.id == AGENT, _is_reached()).correlate_except(Agent),
        checks.is_permitted(Job.device_id),
    )


def _claim(condition: ColumnElement[bool]) -> ReturningUpdate[Any]:
    """The conditional update that takes the first job under a condition."""
    candidate = (
        select(Job.id)
        .where(condition)
        .order_by(*QUEUE_ORDER)
        .limit(literal_column("1"))
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    taken = update(JOBS).where(Job.id == candidate, Job.state == QUEUED, not_(IS_BUSY))
    taken = taken.values(state="leased", attempts_used=Job.attempts_used + 1)
    return taken.returning(*JOB_SPEC, JOBS.c.attempts_used)


def _claim_at_once() -> Select[*tuple[Any, ...]]:
    """Take a job and open an attempt at it, in one statement of PostgreSQL, unless a lease has run
    out: its job may come first.
    """
    taken = CLAIM_FOR_DEVICE.where(not_(EXPIRED)).cte("taken")
    opened = insert(ATTEMPTS).from_select(
        ("id", "job_id", "agent_id", "number", "state", "leased_at", "expires_at"),
        select(
            ATTEMPT, taken.c.id, AGENT, taken.c.attempts_used, OPEN, utcnow(), utcnow(LEASE_SECONDS)
        ),
    )
    return select(*taken.columns).add_cte(opened.cte("opened"))


CLAIM_FOR_DEVICE = _claim(_for_device())
CLAIM_TRAINING = _claim(TRAINABLE)
CLAIM_AT_ONCE = Prepared(_claim_at_once())
OPEN_ATTEMPT = insert(ATTEMPTS).values(
    state="open", leased_at=utcnow(), expires_at=utcnow(LEASE_SECONDS)
)
OPEN_LEASES = select(Attempt.id, Attempt.expires_at, utcnow().label("now")).where(
    Attempt.state == OPEN
)


def _stepwise() -> Select[str]:
    waits = and_(Job.state == QUEUED, Job.device_id.is_not(None))
    first = select(func.min(Job.device_id).label("device_id")).where(waits)
    steps = first.cte("steps", recursive=True)
    following = select(func.min(Job.device_id)).where(waits, Job.device_id > steps.c.device_id)
    steps = steps.union_all(
        select(following.scalar_subquery()).where(steps.c.device_id.is_not(None))
    )
    return select(steps.c.device_id).where(steps.c.device_id.is_not(None))


DEVICES_WITH_WORK = _stepwise()
