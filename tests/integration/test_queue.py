"""Many claimers at once: every job is executed once, and a campaign's next step is taken once."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import FastAPI
from sqlalchemy import func, select, update
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent
from latency_service.db.engine import Database
from latency_service.devices.models import Device
from latency_service.devices.schemas import RuntimeConfig
from latency_service.jobs import claims, service
from latency_service.jobs.models import Attempt, Job
from latency_service.jobs.schemas import Lease
from latency_service.measurements import results
from latency_service.measurements.schemas import ResultBody, Summary
from latency_service.settings import Settings

Measure = Callable[..., dict[str, Any]]

SUMMARY = Summary(
    latency_ms=1.0,
    lower_ms=0.9,
    upper_ms=1.1,
    naive_ms=1.0,
    verdict="ok",
    trainable=True,
    quiet_share=1.0,
    rounds_used=9,
)


def send(database: Database, agent: FakeAgent, lease: Lease) -> str:
    body = ResultBody.model_validate(agent.result(lease.model_dump(mode="json")))
    with database.write() as session:
        spec = service.spec_of(session.connection(), agent.id, lease.attempt_id)
        received = results.Received(
            spec=spec, body=body, summaries=[SUMMARY], digest=lease.attempt_id
        )
        return results.accept(session, Settings(), agent.id, lease.attempt_id, received).outcome


def test_eight_claimers_execute_each_of_600_jobs_once(
    api: TestClient,
    database: Database,
    settings: Settings,
    agent: FakeAgent,
    enrol: Callable[..., str],
    space_id: str,
) -> None:
    runtime = RuntimeConfig()
    with database.write() as session:
        device_id = session.scalars(select(Device.id)).one()
        session.add_all(
            Job(
                kind="measure",
                device_id=device_id,
                space_id=space_id,
                provider=runtime.provider,
                opset=17,
                runtime=runtime.model_dump(),
                architectures=[[8, 8]],
            )
            for _ in range(600)
        )
    agents = [agent, *(FakeAgent(api, enrol("board")) for _ in range(7))]

    def work(one: FakeAgent) -> list[str]:
        done = []
        while (lease := claims.next_lease(database, settings, one.id)) is not None:
            with (
                database.write() as session
            ):  # no more than ends it: the claiming is what is tried here
                session.execute(
                    update(Attempt).where(Attempt.id == lease.attempt_id).values(state="done")
                )
                session.execute(update(Job).where(Job.id == lease.job_id).values(state="done"))
            done.append(lease.job_id)
        return done

    with ThreadPoolExecutor(8) as pool:
        executed = Counter(job_id for jobs in pool.map(work, agents) for job_id in jobs)

    assert len(executed) == 600
    assert set(executed.values()) == {1}
    with database.read() as session:
        assert session.scalar(select(func.count()).select_from(Attempt)) == 600


def test_one_agent_polling_twice_gets_one_job(
    database: Database, settings: Settings, agent: FakeAgent, measure: Measure
) -> None:
    measure([[8, 8], [4, 4]], batch_size=1)
    assert claims.next_lease(database, settings, agent.id) is not None
    assert claims.next_lease(database, settings, agent.id) is None


def test_the_last_jobs_ending_together_start_one_training(
    api: TestClient,
    database: Database,
    settings: Settings,
    agent: FakeAgent,
    enrol: Callable[..., str],
    space_id: str,
) -> None:
    body = {"space_id": space_id, "device": "board", "count": 10, "repeats": 0, "batch_size": 1}
    campaign = api.post("/v1/campaigns", json=body).json()
    while api.get(f"/v1/campaigns/{campaign['id']}").json()["phase"] == "lattice":
        lease = agent.claim()
        assert lease is not None
        assert agent.send(lease).status_code == 201
    agents = [agent, *(FakeAgent(api, enrol("board")) for _ in range(9))]
    leases = [claims.next_lease(database, settings, one.id) for one in agents]
    together = threading.Barrier(len(agents))

    def finish(one: FakeAgent, lease: Lease | None) -> str:
        assert lease is not None
        together.wait()
        return send(database, one, lease)

    with ThreadPoolExecutor(len(agents)) as pool:
        assert set(pool.map(finish, agents, leases)) == {"accepted"}

    with database.read() as session:
        assert session.scalar(select(func.count()).where(Job.kind == "train")) == 1
    assert api.get(f"/v1/campaigns/{campaign['id']}").json()["phase"] == "training"


def test_verifications_go_before_campaigns(
    database: Database, agent: FakeAgent, measure: Measure
) -> None:
    measure([[8, 8], [4, 4]], batch_size=1)
    with database.write() as session:
        second = session.scalars(select(Job).where(Job.position == 1)).one()
        second.priority = 0
    lease = agent.claim()
    assert lease is not None
    assert lease["job_id"] == second.id


def test_waiting_poll_gets_a_job_that_comes_later(agent: FakeAgent, measure: Measure) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(agent.claim, 5.0)
        measure([[8, 8]])
        assert waiting.result(timeout=10) is not None


def test_waiting_poll_is_sent_home_when_the_service_stops(app: FastAPI, agent: FakeAgent) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(agent.claim, 60.0)
        app.state.stopping.set()
        assert waiting.result(timeout=5) is None
