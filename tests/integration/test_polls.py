"""Long polls over HTTP: they wait without a look at the database, and work reaches them at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import select
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent
from latency_service.db.engine import Database
from latency_service.devices.models import Agent, Device
from latency_service.jobs.models import Job
from latency_service.settings import Settings
from tests.support.agents import eventually
from tests.support.databases import statements

Enrol = Callable[..., str]

Measure = Callable[..., dict[str, Any]]
Lease = dict[str, Any] | None


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as made:
        yield made


@pytest.fixture
def poll(app: FastAPI, pool: ThreadPoolExecutor) -> Callable[..., Future[Lease]]:
    """A function that lets an agent poll in a thread, and returns when it waits."""

    def begin(agent: FakeAgent, seconds: float = 30.0) -> Future[Lease]:
        future = pool.submit(agent.claim, seconds)
        eventually(lambda: _is_waiting(app, agent))
        return future

    return begin


def _is_waiting(app: FastAPI, agent: FakeAgent) -> bool:
    polls = app.state.upkeep.polls
    found = polls._by_agent.get(agent.id)
    return found is not None and found.device_id is not None and bool(found._woken._waiters)


def test_a_poll_that_waits_looks_at_nothing(
    app: FastAPI, database: Database, agent: FakeAgent, poll: Callable[..., Future[Lease]]
) -> None:
    waiting = poll(agent)
    time.sleep(0.2)
    with statements(database) as sent:
        time.sleep(0.8)
    assert sent == []
    app.state.upkeep.send_home(agent.id)
    assert waiting.result(timeout=10) is None


def test_work_of_another_device_wakes_nobody_else(
    api: TestClient,
    database: Database,
    enrol: Enrol,
    agent: FakeAgent,
    measure: Measure,
    poll: Callable[..., Future[Lease]],
) -> None:
    elsewhere = FakeAgent(api, enrol(), "elsewhere")
    waits = poll(elsewhere, 2.0)
    mine = poll(agent)
    with statements(database) as sent:
        measure([[8, 8]])
        assert mine.result(timeout=10) is not None
        time.sleep(0.3)
    claims = [each for each in sent if "UPDATE jobs" in each]
    assert len(claims) == 1
    assert waits.result(timeout=10) is None


def test_a_failed_attempt_wakes_the_devices_other_agent(
    api: TestClient,
    enrol: Enrol,
    agent: FakeAgent,
    measure: Measure,
    poll: Callable[..., Future[Lease]],
) -> None:
    second = FakeAgent(api, enrol("board"))
    measure([[8, 8]])
    lease = agent.claim()
    assert lease is not None
    waiting = poll(second)
    assert agent.fail(lease, "runtime_crash").status_code == 200
    assert waiting.result(timeout=10) is not None


def test_work_that_another_process_queues_reaches_a_poll(
    settings: Settings, agent: FakeAgent, space_id: str, poll: Callable[..., Future[Lease]]
) -> None:
    waiting = poll(agent)
    other = Database(settings.url)
    with other.write() as session:
        device_id = session.scalars(select(Device.id)).one()
        session.add(_job(device_id, space_id))
    other.dispose()
    assert waiting.result(timeout=10) is not None


def test_a_second_poll_sends_the_first_home(
    agent: FakeAgent, measure: Measure, poll: Callable[..., Future[Lease]]
) -> None:
    first = poll(agent)
    second = poll(agent)
    assert first.result(timeout=10) is None
    measure([[8, 8]])
    assert second.result(timeout=10) is not None


def test_an_agent_is_heard_of_while_it_only_polls(
    api: TestClient, database: Database, agent: FakeAgent
) -> None:
    with database.write() as session:
        shown = session.get_one(Agent, agent.id)
        before = shown.last_seen_at
    time.sleep(0.01)
    agent.claim()
    with database.read() as session:
        assert session.get_one(Agent, agent.id).last_seen_at > before


def _job(device_id: str, space_id: str) -> Job:
    return Job(
        kind="measure",
        device_id=device_id,
        space_id=space_id,
        provider="CPUExecutionProvider",
        opset=17,
        runtime={
            "provider": "CPUExecutionProvider",
            "intra_threads": 1,
            "batch": 1,
            "precision": "fp32",
        },
        architectures=[[8, 8]],
    )
