"""The lease protocol: who works on what, and what becomes of it.

An attempt is a row and its id is the fencing token. Invariants, kept by conditional updates and
unique indexes: a job has at most one open attempt; an agent has at most one; a job's measurements
are counted once. Time is the database's. Every function takes a session within its caller's
transaction and never commits; or a connection within one, where statements alone do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import structlog
from sqlalchemy import Connection
from sqlalchemy.orm import Session
from structlog.contextvars import bind_contextvars

from latency_service.core.errors import Conflict, Gone, NotFound
from latency_service.core.kill_points import pass_kill_point
from latency_service.db.engine import Database
from latency_service.events import JobEnded, announce
from latency_service.jobs import checks, endings, repository
from latency_service.jobs.facts import AttemptFacts, Held, JobFacts, JobSpec
from latency_service.jobs.schemas import RETRYABLE, Failure
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


def renew(connection: Connection, settings: Settings, agent_id: str, attempt_id: str) -> None:
    """Prolong a lease to `lease_seconds` from now.

    Raises:
        NotFound: no such attempt of this agent.
        Conflict: the lease was lost (code `lost`).
        Gone: the job was cancelled, or another attempt has finished it (code `cancelled`).
    """
    attempt = repository.look_at_attempt(connection, attempt_id)
    if attempt is None or attempt.agent_id != agent_id:
        raise _unknown(attempt_id)
    if repository.renew(connection, attempt_id, settings.lease_seconds):
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
    endings.end_attempt(
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
    _note_attempt(held.job.id, attempt_id, agent_id)
    return held


def _note_attempt(job_id: str, attempt_id: str, agent_id: str) -> None:
    """Let every log line of this request from here on carry them."""
    bind_contextvars(job=job_id, attempt=attempt_id, agent=agent_id)


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


def finish(
    connection: Connection, agent_id: str, attempt_id: str, **ending: str | float | None
) -> JobFacts | None:
    """End an agent's open attempt within its lease and its job as done; the job, whose end the
    caller announces (`announce_end`). None, and nothing changed, in every other case: what became
    of the attempt is then to be looked at (`hold`).

    Args:
        ending: as for `endings.end_attempt`.
    """
    job = endings.finish(connection, agent_id, attempt_id, **ending)
    if job is not None:
        _note_attempt(job.id, attempt_id, agent_id)
    return job


def admit_late(session: Session, held: Held) -> Literal["late", "superseded"]:
    """Decide about the result of an attempt, held by the caller, whose lease has run out. `late`:
    nobody has finished the job, so it counts; a newer attempt at the job is cancelled.
    `superseded`: another attempt has finished the job.

    Raises:
        Conflict: the attempt was given up.
        Gone: the job was cancelled.
    """
    job, attempt = held.job, held.attempt
    if attempt.state == "failed":
        raise Conflict("The attempt was given up before.", "Ask for a new lease.", code="failed")
    if job.state == "cancelled":
        raise Gone("The job was cancelled.", "Drop the result.", code="cancelled")
    if job.state == "done":
        return "superseded"
    if attempt.state != "open":
        cancel_attempt(session, job.id, "An earlier attempt's result arrived late.")
    return "late"


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
        ending: as for `endings.end_attempt`.
    """
    endings.complete(session, held, state, **ending)
    announce_end(session, held.job, "done", target_id)


def fail_for_good(session: Session, job: JobFacts, failure: Failure) -> None:
    """End a job that the caller holds (`repository.lock_job`), and let its campaign go on."""
    endings.end_job(session, job.id, "failed", failure)
    announce_end(session, job, "failed")


def announce_end(session: Session, job: JobFacts, state: str, target_id: str | None = None) -> None:
    """Let a campaign go on, and whatever else follows, when a job has ended."""
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
            target_id=target_id,
        ),
    )


def cancel(session: Session, job_id: str, message: str) -> None:
    """End a job that the caller holds without a result; whoever works on it is told to stop."""
    cancel_attempt(session, job_id, message)
    endings.end_job(session, job_id, "cancelled")


def cancel_attempt(session: Session, job_id: str, message: str) -> None:
    """Tell whoever works on a job that the caller holds to stop."""
    attempt_id = repository.open_attempt_of_job(session, job_id)
    if attempt_id is not None:
        endings.end_attempt(session, attempt_id, "cancelled", message=message)


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
    endings.end_attempt(session, attempt.id, "expired", failure_kind=failure.kind, message=why)
    log.warning("attempt_lost", attempt=attempt.id, job=job.id, number=job.attempts_used, why=why)
    _retry_or_fail(session, settings, job, failure)


def _retry_or_fail(session: Session, settings: Settings, job: JobFacts, failure: Failure) -> None:
    if job.state != "leased":
        return
    if failure.kind == "agent_lost":
        endings.count_lost(session, job.id)
    if failure.kind in RETRYABLE and _has_attempts_left(settings, job, failure):
        endings.requeue(session, job.id)
    else:
        fail_for_good(session, job, failure)


def _has_attempts_left(settings: Settings, job: JobFacts, failure: Failure) -> bool:
    """Attempts that died with their agent or the service say nothing about the job: they have a
    limit of their own.
    """
    if failure.kind == "agent_lost":
        return job.attempts_lost + 1 < settings.max_lost_attempts
    return job.attempts_used - job.attempts_lost < settings.max_attempts
