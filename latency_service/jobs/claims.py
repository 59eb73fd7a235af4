"""Who gets which job: a look at the queue, the claim and the lease.

Each claim is one conditional update, so exactly one of any number of concurrent callers gets a
given job.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from latency_service.core.kill_points import pass_kill_point
from latency_service.db.engine import Database
from latency_service.devices import service as devices_service
from latency_service.devices.models import Device
from latency_service.devices.schemas import RuntimeConfig
from latency_service.jobs import repository, service
from latency_service.jobs.facts import Claimed
from latency_service.jobs.schemas import Failure, Lease, LeaseArchitecture
from latency_service.measurements.schemas import Protocol
from latency_service.settings import Settings

log = structlog.get_logger(__name__)

#: Ends the leases that have run out and returns their number (`sweeping.Sweeper.sweep`).
Sweep = Callable[[], int]


def first_look(
    database: Database, settings: Settings, agent_id: str, sweep: Sweep
) -> tuple[str | None, Lease | None]:
    """The look at the queue with which a poll begins: the agent's device, and a lease or None."""
    device_id, claimed = first_claim(database, settings, agent_id, sweep)
    return device_id, None if claimed is None else _lease(settings, claimed)


def first_claim(
    database: Database, settings: Settings, agent_id: str, sweep: Sweep | None = None
) -> tuple[str | None, Claimed | None]:
    """The claim of an agent or a trainer that works on nothing: its device, and a job or None;
    arguments as for `claim_next`. An attempt that it holds nevertheless ends before: the answer to
    an earlier claim was lost.
    """
    claimed = _claim_at_once(database, settings, agent_id)
    if claimed is not None:
        return claimed.spec.device_id, claimed
    outlook = _outlook(database, settings, agent_id)
    if outlook.is_busy or outlook.is_on_trial:
        with database.write() as session:
            service.begin_poll(session, settings, agent_id)
        outlook = _outlook(database, settings, agent_id)
    return outlook.claimant.device_id, _claim(database, settings, outlook, sweep)


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
    """Claim the next job for an agent, in transactions of its own.

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
            service.fail_for_good(session, job, failure)


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
