"""Handling of results: the table of docs/design.md, section 4, row by row."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import structlog
from sqlalchemy.orm import Session

from latency_service.core.errors import BadRequest, Conflict
from latency_service.db.engine import Database
from latency_service.events import prepare
from latency_service.jobs import endings
from latency_service.jobs import service as jobs_service
from latency_service.jobs.facts import AttemptFacts, JobSpec
from latency_service.jobs.schemas import ResultAnswer
from latency_service.measurements import repository, service
from latency_service.measurements.schemas import ResultBody, Summary
from latency_service.settings import Settings

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class Received:
    """A result as it arrived, its summaries computed."""

    spec: JobSpec
    body: ResultBody
    #: Summaries in the order of the body's results.
    summaries: list[Summary]
    #: SHA-256 of the body: distinguishes a repetition from another result.
    digest: str

    @property
    def is_repeat(self) -> bool:
        """Whether it repeats what another device has measured."""
        return self.spec.target_id is not None


def wanted(database: Database, agent_id: str, attempt_id: str) -> JobSpec:
    """What an attempt is to measure.

    Raises:
        NotFound: no such attempt of this agent.
    """
    with database.look() as connection:
        return jobs_service.spec_of(connection, agent_id, attempt_id)


def receive(database: Database, spec: JobSpec, body: ResultBody) -> Received:
    """Check a result against its job and derive its summaries; reads only, so call it outside a
    transaction.

    Raises:
        BadRequest: the result is for another runtime, or does not cover the job's architectures
            once each.
    """
    _check(body, spec)
    prepare(database, spec.campaign_id, spec.stage)
    digest = hashlib.sha256(body.model_dump_json().encode()).hexdigest()
    return Received(
        spec=spec,
        body=body,
        summaries=service.summarise_all(body, spec.protocol),
        digest=digest,
    )


def accept(
    session: Session, settings: Settings, agent_id: str, attempt_id: str, received: Received
) -> ResultAnswer:
    """Store a result once, whatever has become of its attempt in the meantime. Idempotent by
    digest.

    `accepted`: the attempt was open; its job is done. `repeated`: this very result was stored
    before. `late`: the lease had run out, yet nobody had finished the job; it is done now, and a
    newer attempt at it is cancelled. `superseded`: another attempt finished the job; the
    measurements are kept as an extra repeat that is not counted.

    Raises:
        NotFound: no such attempt of this agent.
        Conflict: another result was stored for this attempt, or it was given up; nothing is stored.
        Gone: the job was cancelled; nothing is stored.
    """
    connection = session.connection()
    finished = jobs_service.finish(connection, agent_id, attempt_id, **_ending(received))
    if finished is not None:
        stored = _store(session, settings, attempt_id, received, counted=True)
        jobs_service.announce_end(session, finished, "done", stored.target_id)
        return _answer("accepted", stored)
    held = jobs_service.hold(session, agent_id, attempt_id)
    if held.attempt.digest is not None:
        return _repeated(session, held.attempt, received)
    outcome = jobs_service.admit_late(session, held)
    counts = outcome == "late"
    stored = _store(session, settings, attempt_id, received, counted=counts)
    if counts:
        jobs_service.complete(session, held, "late", stored.target_id, **_ending(received))
    else:
        endings.end_attempt(session, attempt_id, "superseded", **_ending(received))
    return _answer(outcome, stored)


def _check(body: ResultBody, job: JobSpec) -> None:
    if body.fingerprint.runtime.model_dump() != job.runtime:
        raise BadRequest(
            f"The result is for runtime {body.fingerprint.runtime.key}, not the one of the lease.",
            "Measure with the runtime that the lease names.",
        )
    _check_coverage(body, 1 if job.kind == "verify" else len(job.architectures))
    _check_canaries(body, len(body.calibration.canaries))


def _check_coverage(body: ResultBody, expected: int) -> None:
    if sorted(result.index for result in body.results) != list(range(expected)):
        raise BadRequest(
            f"The result does not cover each of the {expected} architectures of the lease once.",
            "Send one entry for each index, or a failure for the attempt.",
        )


def _check_canaries(body: ResultBody, canaries: int) -> None:
    rounds = [one for result in body.results for one in result.rounds]
    readings = [side for one in rounds for side in (one.before_ms, one.after_ms)]
    if any(len(reading) != canaries for reading in [body.calibration.floor_ms, *readings]):
        raise BadRequest(
            f"Not every round has {canaries} canary readings.",
            "Send the last reading of every canary before and after each round.",
        )


def _repeated(session: Session, attempt: AttemptFacts, received: Received) -> ResultAnswer:
    if attempt.digest != received.digest:
        log.error(
            "security_event",
            event_kind="result_changed",
            attempt=attempt.id,
            agent=attempt.agent_id,
        )
        raise Conflict(
            "Another result was stored for this attempt before.",
            "Ask for a new lease.",
            code="another_digest",
        )
    ids = list(repository.ids_of_attempt(session, attempt.id))
    return ResultAnswer(outcome="repeated", measurement_ids=ids)


def _ending(received: Received) -> dict[str, str | float | None]:
    """What an attempt keeps of its result."""
    return {
        "digest": received.digest,
        "wall_seconds": received.body.wall_seconds,
        "timed_seconds": received.body.timed_seconds,
    }


def _store(
    session: Session, settings: Settings, attempt_id: str, received: Received, *, counted: bool
) -> service.Stored:
    return service.store(
        session,
        settings,
        received.spec,
        attempt_id,
        received.body,
        received.summaries,
        counted=counted,
    )


def _answer(outcome: str, stored: service.Stored) -> ResultAnswer:
    log.info("result_stored", outcome=outcome, measurements=len(stored.measurement_ids))
    return ResultAnswer.model_validate(
        {"outcome": outcome, "measurement_ids": stored.measurement_ids}
    )
