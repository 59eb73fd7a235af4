"""The lease protocol: who works on what, and what becomes of it.

An attempt is a row and its id is the fencing token. Invariants, kept by conditional updates and
unique indexes: a job has at most one open attempt; an agent has at most one; a job's measurements
are counted once. Time is the database's. Every function takes a session within its caller's
transaction and never commits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session
from structlog.contextvars import bind_contextvars

from latency_service.core.errors import Conflict, Gone, NotFound
from latency_service.core.kill_points import pass_kill_point
from latency_service.db.engine import Database
from latency_service.devices import service as devices_service
from latency_service.devices.models import Device
from latency_service.devices.schemas import RuntimeConfig
from latency_service.events import JobEnded, announce
from latency_service.jobs import checks, repository
from latency_service.jobs.facts import AttemptFacts, Claimed, Held, JobFacts, JobSpec
from latency_service.jobs.schemas import RETRYABLE, Failure, Lease, LeaseArchitecture
from latency_service.measurements.schemas import Protocol
from latency_service.settings import Settings

log = structlog.get_logger(__name__)

#: Ends the leases that have run out and returns their number (`sweeping.Sweeper.sweep`).
Sweep = Callable[[], int]

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


def first_look(
    database: Database, settings: Settings, agent_id: str, sweep: Sweep
) -> tuple[str | None, Lease | None]:
    """The look at the queue with which a poll begins: the agent's device, and a lease or None."""
    claimed = _claim_at_once(database, settings, agent_id)
    if claimed is not None:
        return claimed.spec.device_id, _lease(settings, claimed)
    outlook = _outlook(database, settings, agent_id)
    if outlook.is_busy or outlook.is_on_trial:
        with database.write() as session:
            begin_poll(session, settings, agent_id)
        outlook = _outlook(database, settings, agent_id)
    claimed = _claim(database, settings, outlook, sweep)
    return outlook.claimant.device_id, None if claimed is None else _lease(settings, claimed)


def next_lease(
    database: Database, settings: Settings, agent_id: str, sweep: Sweep | None = None
) -> Lease | None:
    """One look at the queue for a device's agent: a lease, or None when nothing waits that it can
    run; arguments as for `claim_next`.
    """
    claimed = claim_next(database, settings, agent_id, sweep)
    return None if claimed is None else _lease(settings, claimed)


def claim_next(
    database: Database, settings: Settings, agent_id: str, sweep: Sweep | None = None
) -> Claimed | None:
    """Claim the next job for an agent or a trainer, in transactions of its own.

    Exactly one of any number of concurrent callers gets a given job. An agent that already has an
    open attempt gets nothing: it polled twice at once. Writes only when there is something to do.

    Args:
        sweep: ends leases that have run out; called when there are any.
    """
    claimed = _claim_at_once(database, settings, agent_id)
    if claimed is not None:
        return claimed
    return _claim(database, settings, _outlook(database, settings, agent_id), sweep)


def _claim_at_once(database: Database, settings: Settings, agent_id: str) -> Claimed | None:
    """The claim before any look, where a claim that finds nothing costs no more than one: not on
    SQLite, whose writers take turns.
    """
    if database.dialect != "postgresql":
        return None
    try:
        with database.look() as connection:
            pass_kill_point("claimed-before-commit")
            claimed = repository.claim_at_once(connection, agent_id, settings.lease_seconds)
    except IntegrityError:  # it polled twice at once, and the other poll has a job
        return None
    _note_claim(claimed, agent_id)
    return claimed


def _claim(
    database: Database, settings: Settings, outlook: repository.Outlook, sweep: Sweep | None
) -> Claimed | None:
    if outlook.expired and sweep is not None and sweep():
        outlook = _outlook(database, settings, outlook.claimant.id)
    if outlook.is_busy:
        return None
    if not outlook.runnable:
        if outlook.unrunnable:
            with database.write() as session:
                _refuse_unrunnable(session, settings, outlook.claimant)
        return None
    try:
        with database.write() as session:
            claimed = repository.claim(
                session, outlook.claimant, settings.lease_seconds, settings.still_seconds
            )
            pass_kill_point("claimed-before-commit")
    except IntegrityError:  # it polled twice at once, and the other poll has a job
        return None
    _note_claim(claimed, outlook.claimant.id)
    return claimed


def _note_claim(claimed: Claimed | None, agent_id: str) -> None:
    pass_kill_point("claimed-after-commit")
    if claimed is not None:
        log.info(
            "leased",
            job=claimed.spec.id,
            attempt=claimed.attempt_id,
            agent=agent_id,
            number=claimed.number,
        )


def end_silent(database: Database, settings: Settings, lease: repository.OpenLease) -> None:
    """End an attempt whose lease has run out, unless it was renewed or ended meanwhile."""
    with database.write() as session:
        held = repository.lock_attempt(session, lease.attempt_id)
        if held is not None and held.attempt.expires_at == lease.expires_at:
            _end_lost(session, settings, held, SILENT)
            pass_kill_point("swept-before-commit")


def abandon(session: Session, settings: Settings, attempt_ids: Sequence[str]) -> None:
    """End attempts whose agents were restarted; their jobs are given out again, or fail with
    `agent_lost`.
    """
    for attempt_id in attempt_ids:
        held = repository.lock_attempt(session, attempt_id)
        if held is not None:
            _end_lost(session, settings, held, RESTARTED)


def open_attempts_of_device(session: Session, device_id: str) -> Sequence[str]:
    return repository.open_attempts_of_device(session, device_id)


def renew(session: Session, settings: Settings, agent_id: str, attempt_id: str) -> None:
    """Prolong a lease to `lease_seconds` from now.

    Raises:
        NotFound: no such attempt of this agent.
        Conflict: the lease was lost (code `lost`).
        Gone: the job was cancelled, or another attempt has finished it (code `cancelled`).
    """
    attempt = repository.look_at_attempt(session, attempt_id)
    if attempt is None or attempt.agent_id != agent_id:
        raise _unknown(attempt_id)
    if repository.renew(session, attempt_id, settings.lease_seconds):
        return
    if attempt.state == "cancelled":
        raise Gone(
            "The job was cancelled, or another attempt has finished it.",
            "Drop it.",
            code="cancelled",
        )
    raise _lost(attempt)


def fail(
    session: Session, settings: Settings, agent_id: str, attempt_id: str, failure: Failure
) -> None:
    """An agent gives an attempt up. Idempotent; says nothing when the attempt had ended before.

    The job is given out again when the kind is retryable and attempts are left; otherwise it fails
    for good.

    Raises:
        NotFound: no such attempt of this agent.
    """
    held = hold(session, agent_id, attempt_id)
    if held.attempt.state != "open":
        return
    repository.end_attempt(
        session,
        attempt_id,
        "failed",
        failure_kind=failure.kind,
        message=failure.message,
        log_tail=failure.log_tail,
    )
    log.warning("attempt_failed", kind=failure.kind, cause=failure.message)
    _retry_or_fail(session, settings, held.job, failure)


def hold(session: Session, agent_id: str, attempt_id: str) -> Held:
    """An attempt and its job as they are now, held until the transaction ends.

    Raises:
        NotFound: no such attempt of this agent.
    """
    held = repository.lock_attempt(session, attempt_id)
    if held is None or held.attempt.agent_id != agent_id:
        raise _unknown(attempt_id)
    # every log line of this request from here on carries them
    bind_contextvars(job=held.job.id, attempt=attempt_id, agent=agent_id)
    return held


def spec_of(connection: Connection, agent_id: str, attempt_id: str) -> JobSpec:
    """What an attempt is to do.

    Raises:
        NotFound: no such attempt of this agent.
    """
    found = repository.spec_of_attempt(connection, attempt_id)
    if found is None or found[1] != agent_id:
        raise _unknown(attempt_id)
    return found[0]


def _unknown(attempt_id: str) -> NotFound:
    return NotFound(
        f"This agent has no attempt {attempt_id!r}.", "Ask for a lease: POST /v1/leases."
    )


def succeed(session: Session, held: Held) -> None:
    """End an open attempt that the caller holds, and its job with it.

    Raises:
        Conflict: the attempt has ended before (code `lost`).
    """
    if held.attempt.state != "open":
        raise _lost(held.attempt)
    complete(session, held, "done")


def complete(
    session: Session,
    held: Held,
    state: str,
    target_id: str | None = None,
    **ending: str | float | None,
) -> None:
    """End an attempt that the caller holds, and its job as done; let its campaign go on.

    Args:
        state: in which the attempt ends.
        target_id: that the measurements turned out to be on, if there are any.
        ending: as for `repository.end_attempt`.
    """
    session.flush()
    repository.complete(session, held, state, **ending)
    announce_end(session, held.job, "done", target_id)


def _fail_for_good(session: Session, job: JobFacts, failure: Failure) -> None:
    """End a job that the caller holds (`repository.lock_job`), and let its campaign go on."""
    session.flush()
    repository.end_job(session, job.id, "failed", failure)
    announce_end(session, job, "failed")


def announce_end(session: Session, job: JobFacts, state: str, target_id: str | None = None) -> None:
    """Let a campaign go on, and whatever else follows, when a job has ended."""
    announce(
        session,
        JobEnded(
            job_id=job.id,
            kind=job.kind,
            state=state,
            campaign_id=job.campaign_id,
            space_id=job.space_id,
            model_sha256=job.model_sha256,
            target_id=target_id,
        ),
    )


def cancel(session: Session, job_id: str, message: str) -> None:
    """End a job that the caller holds without a result; whoever works on it is told to stop."""
    cancel_attempt(session, job_id, message)
    repository.end_job(session, job_id, "cancelled")


def cancel_attempt(session: Session, job_id: str, message: str) -> None:
    """Tell whoever works on a job that the caller holds to stop."""
    attempt_id = repository.open_attempt_of_job(session, job_id)
    if attempt_id is not None:
        repository.end_attempt(session, attempt_id, "cancelled", message=message)


def _lost(attempt: AttemptFacts) -> Conflict:
    return Conflict(
        f"The attempt is {attempt.state}.",
        "Send its result if there is one; ask for a new lease.",
        code="lost",
    )


def _end_lost(session: Session, settings: Settings, held: Held, why: str) -> None:
    job, attempt = held.job, held.attempt
    if attempt.state != "open":
        return
    failure = Failure(kind="agent_lost", message=why)
    repository.end_attempt(session, attempt.id, "expired", failure_kind=failure.kind, message=why)
    log.warning("attempt_lost", attempt=attempt.id, job=job.id, number=job.attempts_used, why=why)
    _retry_or_fail(session, settings, job, failure)


def _retry_or_fail(session: Session, settings: Settings, job: JobFacts, failure: Failure) -> None:
    if job.state != "leased":
        return
    if failure.kind == "agent_lost":
        repository.count_lost(session, job.id)
    if failure.kind in RETRYABLE and _has_attempts_left(settings, job, failure):
        repository.requeue(session, job.id)
    else:
        _fail_for_good(session, job, failure)


def _has_attempts_left(settings: Settings, job: JobFacts, failure: Failure) -> bool:
    """Attempts that died with their agent or the service say nothing about the job: they have a
    limit of their own.
    """
    if failure.kind == "agent_lost":
        return job.attempts_lost + 1 < settings.max_lost_attempts
    return job.attempts_used - job.attempts_lost < settings.max_attempts


def _outlook(database: Database, settings: Settings, agent_id: str) -> repository.Outlook:
    with database.look() as connection:
        return repository.outlook(connection, agent_id, settings.still_seconds)


def _refuse_unrunnable(session: Session, settings: Settings, agent: repository.Claimant) -> None:
    """Fail the jobs that no agent of the device can run any more, instead of letting them wait for
    ever.
    """
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
                device.name, agents, waiting.provider, waiting.opset
            )
            failure = Failure(kind="version_mismatch", message=f"{message} {cure}")
            _fail_for_good(session, job, failure)


def _lease(settings: Settings, claimed: Claimed) -> Lease:
    job = claimed.spec
    delivered = job.kind == "verify"
    asked = [] if delivered else job.architectures
    return Lease(
        attempt_id=claimed.attempt_id,
        job_id=job.id,
        number=claimed.number,
        kind="verify" if delivered else "measure",
        lease_seconds=settings.lease_seconds,
        renew_seconds=settings.renew_seconds,
        runtime=RuntimeConfig.model_validate(job.runtime),
        protocol=Protocol.model_validate(job.protocol),
        space_id=str(job.space_id),
        model_sha256=job.model_sha256,
        opset=job.opset,
        seed=job.seed,
        architectures=[LeaseArchitecture(index=i, widths=widths) for i, widths in enumerate(asked)],
    )
