"""Clocks that jump: a lease ends when its time has passed, whatever a clock says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent
from latency_service.db.engine import Database
from latency_service.jobs import service
from latency_service.jobs.repository import OpenLease
from latency_service.jobs.sweeping import Sweeper
from latency_service.settings import Settings
from tests.support.clocks import DatabaseClock

Measure = Callable[..., dict[str, Any]]
HOUR = 3600.0
LEASE = 60.0


class Elapsed:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock(database: Database) -> Iterator[DatabaseClock]:
    made = DatabaseClock(database)
    yield made
    made.restore()


@pytest.fixture
def elapsed() -> Elapsed:
    return Elapsed()


@pytest.fixture
def sweeper(database: Database, settings: Settings, elapsed: Elapsed) -> Sweeper:
    return Sweeper(database, settings, elapsed)


@pytest.fixture
def lease(agent: FakeAgent, measure: Measure, sweeper: Sweeper) -> dict[str, Any]:
    """A lease that the sweeper has seen."""
    measure([[8, 8]])
    claimed = agent.claim()
    assert claimed is not None
    assert sweeper.sweep() == 0
    return claimed


def test_a_lease_ends_after_its_time(sweeper: Sweeper, elapsed: Elapsed, lease: object) -> None:
    elapsed.seconds += LEASE - 1
    assert sweeper.sweep() == 0
    elapsed.seconds += 2
    assert sweeper.sweep() == 1


def test_a_clock_that_is_set_back_keeps_no_job_leased(
    sweeper: Sweeper, elapsed: Elapsed, clock: DatabaseClock, lease: object
) -> None:
    clock.set_forward(-HOUR)
    elapsed.seconds += LEASE - 1
    assert sweeper.sweep() == 0
    elapsed.seconds += 2
    assert sweeper.sweep() == 1


def test_a_lease_from_before_the_clock_was_set_back_ends_after_a_restart(
    database: Database, settings: Settings, elapsed: Elapsed, clock: DatabaseClock, lease: object
) -> None:
    clock.set_forward(-HOUR)
    restarted = Sweeper(database, settings, elapsed)
    assert restarted.sweep() == 0
    elapsed.seconds += LEASE + 1
    assert restarted.sweep() == 1


def test_a_clock_that_is_set_forward_ends_no_lease_early(
    api: TestClient,
    sweeper: Sweeper,
    elapsed: Elapsed,
    clock: DatabaseClock,
    agent: FakeAgent,
    lease: dict[str, Any],
) -> None:
    clock.set_forward(HOUR)
    elapsed.seconds += 1
    assert sweeper.sweep() == 0
    assert agent.renew(lease).status_code == 200
    assert agent.send(lease).json()["outcome"] == "accepted"
    assert api.get(f"/v1/jobs/{lease['job_id']}").json()["state"] == "done"


def test_a_result_after_the_clock_was_set_forward_is_kept(
    api: TestClient, clock: DatabaseClock, agent: FakeAgent, lease: dict[str, Any]
) -> None:
    clock.set_forward(HOUR)
    assert agent.send(lease).json()["outcome"] == "late"
    assert api.get(f"/v1/jobs/{lease['job_id']}").json()["state"] == "done"


def test_a_renewal_after_the_clock_was_set_back_counts(
    sweeper: Sweeper,
    elapsed: Elapsed,
    clock: DatabaseClock,
    agent: FakeAgent,
    lease: dict[str, Any],
) -> None:
    clock.set_forward(-HOUR)
    elapsed.seconds += LEASE - 1
    assert agent.renew(lease).status_code == 200
    assert sweeper.sweep() == 0
    elapsed.seconds += LEASE - 1
    assert sweeper.sweep() == 0
    elapsed.seconds += 2
    assert sweeper.sweep() == 1


def test_a_lease_that_was_renewed_meanwhile_is_not_ended(
    database: Database,
    settings: Settings,
    elapsed: Elapsed,
    agent: FakeAgent,
    lease: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sweeper = Sweeper(database, settings, elapsed)
    sweeper.sweep()
    elapsed.seconds += LEASE + 1
    look = sweeper._look

    def renewed_after_the_look() -> Any:
        found = look()
        assert agent.renew(lease).status_code == 200
        return found

    monkeypatch.setattr(sweeper, "_look", renewed_after_the_look)
    sweeper.sweep()
    assert agent.renew(lease).status_code == 200, "it is open still"


def test_a_lease_that_cannot_be_ended_holds_up_no_other(
    api: TestClient,
    measure: Measure,
    sweeper: Sweeper,
    elapsed: Elapsed,
    lease: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    second = FakeAgent(api, api.post("/v1/enrolments").json()["token"], "second")
    measure([[8, 8]], device="second")
    other = second.claim()
    assert other is not None
    sweeper.sweep()
    end_silent = service.end_silent
    refused = []

    def end_other(database: Database, settings: Settings, ended: OpenLease) -> None:
        if ended.attempt_id == lease["attempt_id"]:
            refused.append(ended)
            raise ValueError("what follows from its end fails")
        end_silent(database, settings, ended)

    monkeypatch.setattr(service, "end_silent", end_other)
    elapsed.seconds += LEASE + 1
    assert [sweeper.sweep() for _ in range(3)] == [1, 0, 0]
    assert len(refused) == 1, "it is tried again later"
    monkeypatch.undo()
    elapsed.seconds += LEASE + 1
    assert sweeper.sweep() == 1
