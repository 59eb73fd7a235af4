"""Attempts that die with their agent or the service are no failures of their job."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import pytest
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent
from latency_service.db.engine import Database
from latency_service.devices import repository as devices_repository
from latency_service.jobs import endings, repository
from latency_service.settings import Settings
from tests.support.settings import POSTGRESQL_ONLY

Measure = Callable[..., dict[str, Any]]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"max_attempts": 2, "max_lost_attempts": 4})


def claimed(agent: FakeAgent) -> dict[str, Any]:
    """A lease; whatever the agent held before is lost."""
    lease = agent.claim()
    assert lease is not None
    return lease


def job(api: TestClient, lease: dict[str, Any]) -> dict[str, Any]:
    return dict(api.get(f"/v1/jobs/{lease['job_id']}").json())


def test_more_kills_than_failures_are_allowed_and_the_job_is_done(
    api: TestClient, agent: FakeAgent, measure: Measure
) -> None:
    measure([[8, 8]])
    for number in range(1, 4):
        assert claimed(agent)["number"] == number
    assert agent.send(claimed(agent)).status_code == 201


def test_failures_are_counted_without_the_kills_between_them(
    api: TestClient, agent: FakeAgent, measure: Measure
) -> None:
    measure([[8, 8]])
    claimed(agent)
    agent.fail(claimed(agent), "runtime_crash")
    claimed(agent)
    lease = claimed(agent)
    assert job(api, lease)["state"] == "leased"
    agent.fail(lease, "runtime_crash")
    assert job(api, lease)["failure"]["kind"] == "runtime_crash"


def test_a_job_that_kills_its_agent_again_and_again_ends(
    api: TestClient, agent: FakeAgent, measure: Measure
) -> None:
    measure([[8, 8]])
    leases = [claimed(agent) for _ in range(4)]
    assert agent.claim() is None
    assert job(api, leases[0])["failure"]["kind"] == "agent_lost"


def test_an_agent_that_is_stopped_gives_its_job_back_as_lost(
    api: TestClient, agent: FakeAgent, measure: Measure
) -> None:
    measure([[8, 8]])
    for _ in range(3):
        agent.fail(claimed(agent), "agent_lost")
    assert agent.send(claimed(agent)).status_code == 201


def test_a_renewal_waits_for_whoever_ends_the_attempt(
    agent: FakeAgent, measure: Measure, database: Database, settings: Settings
) -> None:
    """Otherwise an agent would be told that its lease goes on, and lose it at that moment."""
    measure([[8, 8]])
    attempt_id = claimed(agent)["attempt_id"]

    def renew() -> bool:
        with database.change() as connection:
            return repository.renew(connection, attempt_id, settings.lease_seconds)

    with ThreadPoolExecutor() as threads:
        with database.write() as session:
            held = repository.lock_attempt(session, attempt_id)
            assert held is not None
            renewed = threads.submit(renew)
            wait([renewed], timeout=0.5)
            assert not renewed.done()
            endings.end_attempt(session, attempt_id, "expired")
        assert renewed.result(timeout=10) is False


@POSTGRESQL_ONLY
def test_a_campaign_that_waits_for_a_lattice_ends_without_the_device(
    api: TestClient, agent: FakeAgent, space_id: str, database: Database
) -> None:
    """Whoever has found the lattice holds the device and then wants the campaign."""
    body = {"space_id": space_id, "device": "board", "count": 12}
    _, waiting = (api.post("/v1/campaigns", json=body).json() for _ in range(2))
    assert waiting["jobs_total"] == 0
    with ThreadPoolExecutor() as threads, database.write() as session:
        devices_repository.lock_device(session, waiting["device_id"])
        path = f"/v1/campaigns/{waiting['id']}/cancel"
        cancelled = threads.submit(api.post, path).result(timeout=10)
    assert cancelled.json()["state"] == "cancelled"
