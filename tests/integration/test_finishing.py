"""The end of an attempt and its job: in time, by its own agent, while it is open; or not at all."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import pytest
from sqlalchemy import update

from latency_service.agent.testing import FakeAgent
from latency_service.db.base import utcnow
from latency_service.db.engine import Database
from latency_service.jobs import claims, endings, repository, service
from latency_service.jobs.models import Attempt, Job
from latency_service.jobs.schemas import Lease
from latency_service.settings import Settings

Measure = Callable[..., dict[str, Any]]


@pytest.fixture
def lease(database: Database, settings: Settings, agent: FakeAgent, measure: Measure) -> Lease:
    measure([[8, 8]])
    found = claims.next_lease(database, settings, agent.id)
    assert found is not None
    return found


def states(database: Database, lease: Lease) -> tuple[str, str]:
    """Of the attempt and of its job."""
    with database.read() as session:
        attempt = session.get_one(Attempt, lease.attempt_id)
        return attempt.state, session.get_one(Job, lease.job_id).state


def finish(database: Database, agent_id: str, lease: Lease) -> bool:
    with database.change() as connection:
        return service.finish(connection, agent_id, lease.attempt_id, digest="d") is not None


def test_an_open_attempt_ends_once(database: Database, agent: FakeAgent, lease: Lease) -> None:
    with database.change() as connection:
        job = service.finish(connection, agent.id, lease.attempt_id, digest="d", wall_seconds=2.5)
    assert job is not None
    assert (job.id, job.state, job.attempts_used) == (lease.job_id, "done", 1)
    assert states(database, lease) == ("done", "done")
    with database.read() as session:
        attempt = session.get_one(Attempt, lease.attempt_id)
        assert (attempt.digest, attempt.wall_seconds) == ("d", 2.5)
        assert attempt.finished_at is not None
    assert not finish(database, agent.id, lease)


def test_nobody_ends_the_attempt_of_another(
    database: Database, agent: FakeAgent, lease: Lease
) -> None:
    assert not finish(database, f"not {agent.id}", lease)
    assert states(database, lease) == ("open", "leased")


def test_an_attempt_whose_lease_has_run_out_is_left_as_it_is(
    database: Database, agent: FakeAgent, lease: Lease
) -> None:
    with database.write() as session:
        late = update(Attempt).where(Attempt.id == lease.attempt_id)
        session.execute(late.values(expires_at=utcnow(-1)))
    assert not finish(database, agent.id, lease)
    assert states(database, lease) == ("open", "leased")


@pytest.mark.parametrize("ending", ["cancelled", "requeued"])
def test_an_attempt_that_ends_otherwise_meanwhile_is_not_finished(
    database: Database, agent: FakeAgent, lease: Lease, ending: str
) -> None:
    """Whoever holds the job is waited for, and what it did then counts."""
    with ThreadPoolExecutor() as threads:
        with database.write() as session:
            held = repository.lock_attempt(session, lease.attempt_id)
            assert held is not None
            finished = threads.submit(finish, database, agent.id, lease)
            wait([finished], timeout=0.5)
            assert not finished.done()
            if ending == "cancelled":
                service.cancel(session, lease.job_id, "not wanted any more")
            else:
                endings.end_attempt(session, lease.attempt_id, "expired")
                endings.requeue(session, lease.job_id)
        assert finished.result(timeout=10) is False
    expected = {"cancelled": ("cancelled", "cancelled"), "requeued": ("expired", "queued")}
    assert states(database, lease) == expected[ending]
