"""Attempts that die with their agent or the service are no failures of their job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent
from latency_service.settings import Settings

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
