"""SQL of how attempts and jobs end."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection
from sqlalchemy.orm import Session
from sqlalchemy.orm.util import identity_key

from latency_service.jobs import statements
from latency_service.jobs.facts import Held, JobFacts
from latency_service.jobs.models import Attempt, Job
from latency_service.jobs.repository import lock_attempt
from latency_service.jobs.schemas import Failure


def end_attempt(
    session: Session, attempt_id: str, state: str, **ending: str | float | None
) -> None:
    """Store the end of an attempt, now.

    Args:
        ending: values of columns in `statements.ENDING`; the others stay as they are.
    """
    session.execute(statements.END_ATTEMPT, {"end_state": state, **_ending(attempt_id, ending)})
    _expire(session, Attempt, attempt_id)


def finish(
    connection: Connection, agent_id: str, attempt_id: str, **ending: str | float | None
) -> JobFacts | None:
    """End an open attempt of an agent, now, and its job as done; the job, or None where nothing was
    changed: there is no such attempt, it is not open, or its lease has run out.

    Args:
        ending: as for `end_attempt`.
    """
    parameters = _ending(attempt_id, ending)
    if connection.dialect.name == "postgresql":
        parameters["its_agent_id"] = agent_id
        row = statements.FINISH.execute(connection, parameters).one_or_none()
        return None if row is None else JobFacts(*row)
    held = lock_attempt(connection, attempt_id)
    if held is None or not held.is_timely or held.attempt.agent_id != agent_id:
        return None
    connection.execute(statements.END_ATTEMPT, {"end_state": "done", **parameters})
    connection.execute(statements.END_JOB, _end_of_job(held.job.id, "done"))
    return held.job._replace(state="done")


def complete(session: Session, held: Held, state: str, **ending: str | float | None) -> None:
    """Store the end of an attempt, now, and its job as done; arguments as for `end_attempt`."""
    end_attempt(session, held.attempt.id, state, **ending)
    end_job(session, held.job.id, "done")


def _ending(
    attempt_id: str, ending: Mapping[str, str | float | None]
) -> dict[str, str | float | None]:
    """The attempt, and a value for each of `statements.ENDING`, as parameters."""
    values = {f"end_{name}": ending.get(name) for name in statements.ENDING}
    return {"its_attempt_id": attempt_id, **values}


def end_job(session: Session, job_id: str, state: str, failure: Failure | None = None) -> None:
    """Store the end of a job, now, and why it failed."""
    session.execute(statements.END_JOB, _end_of_job(job_id, state, failure))
    _expire(session, Job, job_id)


def _end_of_job(job_id: str, state: str, failure: Failure | None = None) -> dict[str, str | None]:
    """A job, and how it ends, as parameters."""
    return {
        "its_job_id": job_id,
        "end_state": state,
        "end_failure_kind": failure.kind if failure else None,
        "end_failure_message": failure.message if failure else None,
        "end_failure_log": failure.log_tail if failure else None,
    }


def requeue(session: Session, job_id: str) -> None:
    """Let a job be given out again."""
    session.execute(statements.REQUEUE, {"its_job_id": job_id})
    _expire(session, Job, job_id)


def count_lost(session: Session, job_id: str) -> None:
    """Count an attempt that died with its agent or the service."""
    session.execute(statements.COUNT_LOST, {"its_job_id": job_id})
    _expire(session, Job, job_id)


def _expire(session: Session, kind: type[Job | Attempt], row_id: str) -> None:
    """Let the session read a row again if it remembers it."""
    known = session.identity_map.get(identity_key(kind, row_id))
    if known is not None:
        session.expire(known)
