"""What makes predictors stale, and forgetting a device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from latency_service.agent.testing import FLOOR_MS, FakeAgent
from latency_service.db.engine import Database
from latency_service.jobs.models import Job
from latency_service.predictors.models import StoredPredictor
from latency_service.predictors.service import publish
from latency_service.settings import Settings
from tests.support import fake_predictor
from tests.support.trainings import train, trainings

Measure = Callable[..., dict[str, Any]]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Drift makes predictors stale whether or not it also quarantines (`test_quarantine`)."""
    return settings.model_copy(update={"quarantine": False})


@pytest.fixture
def predictor_id(agent: FakeAgent, measure: Measure, database: Database) -> str:
    agent.facts = {"cpu": "made up", "onnxruntime": "1.31.1"}
    measure([[8, 8], [4, 4]])
    agent.work()
    return train(database)


def work_at(agent: FakeAgent, factor: float) -> None:
    """Do everything that waits on a machine that runs at another clock."""
    while (lease := agent.claim()) is not None:
        body = agent.result(lease)
        body["calibration"]["floor_ms"] = [factor * ms for ms in FLOOR_MS]
        for result in body["results"]:
            for one in result["rounds"]:
                one["latency_ms"] *= factor
                one["before_ms"] = one["after_ms"] = body["calibration"]["floor_ms"]
        assert agent.send(lease, body).status_code == 201


def is_stale(api: TestClient, predictor_id: str) -> bool:
    return bool(api.get(f"/v1/predictors/{predictor_id}").json()["stale"])


def test_canaries_at_another_speed_make_predictors_stale_until_it_comes_back(
    api: TestClient, agent: FakeAgent, measure: Measure, predictor_id: str
) -> None:
    for factor, stale in ((1.04, False), (1.4, True), (1.41, True), (1.0, False)):
        measure([[8, 8]])
        work_at(agent, factor)
        assert is_stale(api, predictor_id) is stale, factor
    targets = api.get("/v1/devices/board").json()["targets"]
    assert [(target["generation"], target["is_current"]) for target in targets] == [
        (1, True),
        (2, False),
    ]
    assert len({target["fingerprint"] for target in targets}) == 1


def test_upgraded_runtime_makes_predictors_stale_at_once(
    api: TestClient, agent: FakeAgent, predictor_id: str
) -> None:
    again = {**agent.about, "runtime_version": "1.31.1"}
    assert agent.request("POST", "/v1/agents/register", json=again).status_code == 201
    assert not is_stale(api, predictor_id)
    again["runtime_version"] = "1.40.0"
    assert agent.request("POST", "/v1/agents/register", json=again).status_code == 201
    assert is_stale(api, predictor_id)


def forget(api: TestClient, confirm: str | None = "board") -> Any:
    return api.delete(
        "/v1/devices/board/measurements", params={"confirm": confirm} if confirm else {}
    )


def test_forgetting_a_device_takes_its_predictors_along(
    api: TestClient,
    agent: FakeAgent,
    space_id: str,
    measure: Measure,
    predictor_id: str,
    database: Database,
) -> None:
    body = {"space_id": space_id, "device": "board", "count": 12, "repeats": 0}
    campaign = api.post("/v1/campaigns", json=body).json()
    agent.work()
    [waiting] = trainings(database, "queued")
    train(database, waiting.id)
    api.post(f"/v1/campaigns/{campaign['id']}/cancel")
    run = {
        "name": "demo",
        "method": "w-gates",
        "space_id": space_id,
        "predictor_id": predictor_id,
        "budget_ms": 1.0,
    }
    assert api.post("/v1/runs", json={**run, "report": {}}).status_code == 201
    for confirm in (None, "other"):
        answer = forget(api, confirm)
        assert answer.status_code == 422
        assert "latency-service devices forget board --yes" in answer.json()["error"]["cure"]
    measured = len(api.get("/v1/measurements").json())
    [before] = api.get("/v1/runs").json()
    assert forget(api).json() == {
        "device": "board",
        "measurements": measured,
        "predictors": 2,
        "lattices": 1,
        "retrained": 0,
    }
    assert api.get("/v1/measurements").json() == api.get("/v1/predictors").json() == []
    assert api.get("/v1/lattices").json() == []
    answer = api.post(f"/v1/predictors/{predictor_id}/predict", json={"widths": [8, 8]})
    assert answer.status_code == 404
    [run_after] = api.get("/v1/runs").json()
    assert run_after == before | {"predictor_id": None}, "also when its client was heard of"
    assert api.get("/v1/devices/board").json()["online"]
    measure([[8, 8]])
    assert agent.work() == 1


def test_forgetting_drops_trainings_and_waits_for_campaigns(
    api: TestClient, agent: FakeAgent, measure: Measure, predictor_id: str, database: Database
) -> None:
    every = [[a, b] for a in range(2, 9) for b in range(2, 9)]
    measure(every[:40])
    agent.work()
    assert len(trainings(database, "queued")) == 1
    running = measure([[8, 8]])
    answer = forget(api)
    assert (answer.status_code, running["id"] in answer.json()["error"]["message"]) == (409, True)
    assert len(trainings(database, "queued")) == 1, "nothing is dropped when it is refused"
    agent.work()
    assert forget(api).status_code == 200
    assert (trainings(database, "queued"), len(trainings(database, "cancelled"))) == ([], 1)
    assert api.delete("/v1/devices/none/measurements?confirm=none").status_code == 404


def test_forgetting_trains_again_what_has_learned_from_it(
    api: TestClient, agent: FakeAgent, measure: Measure, predictor_id: str, database: Database
) -> None:
    """A predictor of another device that has transferred from the forgotten one."""
    token = api.post("/v1/enrolments").json()["token"]
    other = FakeAgent(api, token, "other", facts={"cpu": "another"})
    measure([[8, 8]], device="other")
    other.work()
    forgotten, kept = (
        api.get(f"/v1/devices/{name}").json()["targets"][0]["id"] for name in ("board", "other")
    )
    with database.write() as session:
        job = Job(kind="train", state="done", target_id=kept)
        row = session.get_one(StoredPredictor, predictor_id)
        job.space_id = row.space_id
        session.add(job)
        session.flush()
        sidecar = fake_predictor.sidecar(row.space_id, "a" * 64)
        learned = sidecar.model_copy(update={"transferred_from": [forgotten]})
        publish(session, job, fake_predictor.artifact(), learned)
    assert forget(api).json()["retrained"] == 1
    [training] = trainings(database, "queued")
    assert (training.target_id, training.space_id) == (kept, job.space_id)
    assert [row["device"] for row in api.get("/v1/predictors").json()] == ["other"]
    assert forget(api, "board").json()["retrained"] == 0, "nothing is left to have learned from"
