"""The lease protocol: who works on what, and what becomes of it.

An attempt is a row and its id is the fencing token. Invariants, kept by conditional updates and
unique indexes: a job has at most one open attempt; an agent has at most one; a job's measurements
are counted once. Time is the database's. Every function takes a session within its caller's
transaction and never commits.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from sqlalchemy.orm import Session
from structlog.contextvars import bind_contextvars

from latency_service.core.errors import Conflict, Gone, NotFound
from latency_service.core.kill_points import pass_kill_point
from latency_service.db.engine import Database
from latency_service.devices import repository as devices_repository
from latency_service.devices import service as devices_service
from latency_service.devices.models import Device
from latency_service.devices.schemas import RuntimeConfig
from latency_service.events import JobEnded, announce
from latency_service.jobs import checks, repository
from latency_service.jobs.models import Attempt, Job
from latency_service.jobs.schemas import RETRYABLE, Failure, Lease, LeaseArchitecture
from latency_service.measurements.schemas import Protocol
from latency_service.settings import Settings

log = structlog.get_logger(__name__)

RESTARTED = "The agent asked for other work: it was restarted, or the lease did not reach it."
SILENT = "The agent was not heard of until its lease ran out."


def begin_poll(session: Session, settings: Settings, agent_id: str) -> None:
    """An agent asks for work, so it is not working: an attempt that it still holds was lost in a
    restart.

    That attempt ends at once and its job is given out again, without waiting for the lease to run
    out. If its device is quarantined, a check of it may be due.
    """
    abandon(session, settings, repository.open_attempts_of_agent(session, agent_id))
    checks.queue_if_due(session, settings, agent_id)


def next_lease(database: Database, settings: Settings, agent_id: str) -> Lease | None:
    """One look at the queue for a device's agent: a lease, or None when nothing waits that it can
    run.

    Reads first, and writes only when there is something to do. Leases that ran out, anybody's, are
    swept on the way.
    """
    claimed = claim_next(database, settings, agent_id)
    return None if claimed is None else _lease(settings, *claimed)


def claim_next(database: Database, settings: Settings, agent_id: str) -> tuple[Job, Attempt] | None:
    """Claim the next job for an agent or a trainer, in transactions of its own.

    Exactly one of any number of concurrent callers gets a given job. An agent that already has an
    open attempt gets nothing: it polled twice at once.
    """
    with database.read() as session:
        agent = devices_repository.agent(session, agent_id)
        outlook = repository.outlook(session, agent, settings.still_seconds)
    if outlook.expired:
        sweep(database, settings)
    elif not outlook.runnable:
        if outlook.unrunnable:
            with database.write() as session:
                _refuse_unrunnable(session, settings, agent_id)
        return None
    with database.write() as session:
        agent = devices_repository.lock_agent(session, agent_id)
        if repository.open_attempts_of_agent(session, agent_id):
            return None
        found = repository.claim(session, agent, settings.lease_seconds, settings.still_seconds)
        pass_kill_point("claimed-before-commit")
    pass_kill_point("claimed-after-commit")
    if found is not None:
        job, attempt = found
        log.info("leased", job=job.id, attempt=attempt.id, agent=agent_id, number=attempt.number)
    return found


def sweep(database: Database, settings: Settings) -> None:
    """End every attempt whose lease has run out, each in a transaction of its own."""
    with database.read() as session:
        expired = repository.expired_attempts(session)
    for attempt_id in expired:
        with database.write() as session:
            job = _lock_job_of(session, attempt_id)
            if repository.lease_ran_out(session, attempt_id):
                _end_lost(session, settings, job, attempt_id, SILENT)
                pass_kill_point("swept-before-commit")


def abandon(session: Session, settings: Settings, attempt_ids: Sequence[str]) -> None:
    """End attempts whose agents were restarted; their jobs are given out again, or fail with
    `agent_lost`.
    """
    for attempt_id in attempt_ids:
        _end_lost(session, settings, _lock_job_of(session, attempt_id), attempt_id, RESTARTED)


def open_attempts_of_device(session: Session, device_id: str) -> Sequence[str]:
    return repository.open_attempts_of_device(session, device_id)


def is_open(session: Session, agent_id: str, attempt_id: str) -> bool:
    """Whether the agent still holds this attempt."""
    attempt = repository.attempt(session, attempt_id)
    return attempt is not None and attempt.agent_id == agent_id and attempt.state == "open"


def renew(session: Session, settings: Settings, agent_id: str, attempt_id: str) -> None:
    """Prolong a lease to `lease_seconds` from now.

    Raises:
        NotFound: no such attempt of this agent.
        Conflict: the lease was lost (code `lost`).
        Gone: the job was cancelled, or another attempt has finished it (code `cancelled`).
    """
    attempt = own_attempt(session, agent_id, attempt_id)
    if repository.renew(session, attempt_id, settings.lease_seconds):
        return
    if attempt.state == "cancelled":
        raise Gone(
            "The job was cancelled, or another attempt has finished it.",
            "Drop it.",
            code="cancelled",
        )
    raise Conflict(
        f"The attempt is {attempt.state}.",
        "Send its result if there is one; ask for a new lease.",
        code="lost",
    )


def fail(
    session: Session, settings: Settings, agent_id: str, attempt_id: str, failure: Failure
) -> None:
    """An agent gives an attempt up. Idempotent; says nothing when the attempt had ended before.

    The job is given out again when the kind is retryable and attempts are left; otherwise it fails
    for good.

    Raises:
        NotFound: no such attempt of this agent.
    """
    own_attempt(session, agent_id, attempt_id)
    job = _lock_job_of(session, attempt_id)
    attempt = own_attempt(session, agent_id, attempt_id)
    if attempt.state != "open":
        return
    attempt.state = "failed"
    attempt.finished_at = devices_repository.now(session)
    attempt.failure_kind = failure.kind
    attempt.message = failure.message
    attempt.log_tail = failure.log_tail
    session.flush()
    log.warning("attempt_failed", kind=failure.kind, cause=failure.message)
    _retry_or_fail(session, settings, job, failure)


def finish(session: Session, job: Job, state: str, failure: Failure | None = None) -> None:
    """End a job that the caller holds (`repository.lock_job`), and let its campaign go on."""
    job.state = state
    job.finished_at = devices_repository.now(session)
    job.failure_kind = failure.kind if failure else None
    job.failure_message = failure.message if failure else None
    job.failure_log = failure.log_tail if failure else None
    session.flush()
    announce(
        session,
        JobEnded(
            job_id=job.id,
            kind=job.kind,
            state=state,
            campaign_id=job.campaign_id,
            space_id=job.space_id,
            model_sha256=job.model_sha256,
        ),
    )


def cancel(session: Session, job: Job, message: str) -> None:
    """End a job that the caller holds without a result; whoever works on it is told to stop."""
    attempt = repository.open_attempt_of_job(session, job.id)
    if attempt is not None:
        attempt.state = "cancelled"
        attempt.finished_at = devices_repository.now(session)
        attempt.message = message
    job.state = "cancelled"
    job.finished_at = devices_repository.now(session)
    session.flush()


def own_attempt(session: Session, agent_id: str, attempt_id: str) -> Attempt:
    """The agent's attempt of that id.

    Raises:
        NotFound: there is none, or it is another agent's.
    """
    attempt = repository.attempt(session, attempt_id)
    if attempt is None or attempt.agent_id != agent_id:
        raise NotFound(
            f"This agent has no attempt {attempt_id!r}.", "Ask for a lease: POST /v1/leases."
        )
    # every log line from here on says what it is about
    bind_contextvars(job=attempt.job_id, attempt=attempt.id, agent=agent_id)
    return attempt


def _lock_job_of(session: Session, attempt_id: str) -> Job:
    attempt = repository.attempt(session, attempt_id)
    assert attempt is not None
    return repository.lock_job(session, attempt.job_id)


def _end_lost(session: Session, settings: Settings, job: Job, attempt_id: str, why: str) -> None:
    attempt = repository.attempt(session, attempt_id)
    if attempt is None or attempt.state != "open":
        return
    attempt.state = "expired"
    attempt.finished_at = devices_repository.now(session)
    attempt.failure_kind = "agent_lost"
    attempt.message = why
    session.flush()
    log.warning("attempt_lost", attempt=attempt_id, job=job.id, number=attempt.number, why=why)
    _retry_or_fail(session, settings, job, Failure(kind="agent_lost", message=why))


def _retry_or_fail(session: Session, settings: Settings, job: Job, failure: Failure) -> None:
    if job.state != "leased":
        return
    if failure.kind in RETRYABLE and job.attempts_used < settings.max_attempts:
        job.state = "queued"
        session.flush()
    else:
        finish(session, job, "failed", failure)


def _refuse_unrunnable(session: Session, settings: Settings, agent_id: str) -> None:
    """Fail the jobs that no agent of the device can run any more, instead of letting them wait for
    ever.
    """
    agent = devices_repository.agent(session, agent_id)
    if agent.device_id is None:
        return
    agents = devices_service.agents_that_count(session, settings, agent.device_id)
    device = session.get_one(Device, agent.device_id)
    for waiting in repository.unrunnable_jobs(session, agent):
        if any(devices_service.can_run(entry, waiting.provider, waiting.opset) for entry in agents):
            continue
        job = repository.lock_job(session, waiting.id)
        if job.state == "queued":
            message, cure = devices_service.explain_mismatch(
                device.name, agents, job.provider, job.opset
            )
            finish(
                session,
                job,
                "failed",
                Failure(kind="version_mismatch", message=f"{message} {cure}"),
            )


def _lease(settings: Settings, job: Job, attempt: Attempt) -> Lease:
    delivered = job.kind == "verify"
    return Lease(
        attempt_id=attempt.id,
        job_id=job.id,
        number=attempt.number,
        kind="verify" if delivered else "measure",
        lease_seconds=settings.lease_seconds,
        renew_seconds=settings.renew_seconds,
        runtime=RuntimeConfig.model_validate(job.runtime),
        protocol=Protocol.model_validate(job.protocol),
        space_id=str(job.space_id),
        model_sha256=job.model_sha256,
        opset=job.opset,
        seed=job.seed,
        architectures=[]
        if delivered
        else [
            LeaseArchitecture(index=i, widths=widths) for i, widths in enumerate(job.architectures)
        ],
    )
