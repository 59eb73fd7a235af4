"""New measurements make a predictor's next version; forgetting a device takes its predictors
along.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent
from latency_service.db.base import utcnow
from latency_service.db.engine import Database
from latency_service.jobs.models import Job
from latency_service.settings import Settings
from latency_service.training import pipeline as training
from latency_service.training import worker
from tests.support.trainings import fake_train, registered, train, trainings
from tests.support.verifications import delivered, upload, verify

Measure = Callable[..., dict[str, Any]]


@pytest.fixture
def predictor_id(agent: FakeAgent, measure: Measure, database: Database) -> str:
    measure([[8, 8], [4, 4]])
    agent.work()
    return train(database)


def test_predictor_knows_its_measurements(api: TestClient, predictor_id: str) -> None:
    measured = {row["id"] for row in api.get("/v1/measurements").json()}
    shown = api.get(f"/v1/predictors/{predictor_id}").json()
    assert set(shown["measurement_ids"]) == measured
    assert api.get("/v1/predictors").json()[0]["measurement_ids"] is None


def test_verification_makes_the_next_version_once(
    api: TestClient, agent: FakeAgent, space_id: str, predictor_id: str, database: Database
) -> None:
    for widths in ((12, 8), (8, 12), (4, 12)):
        verify(api, space_id, upload(api, delivered(widths)), widths=list(widths))
    agent.work()
    [waiting] = trainings(database, "queued")
    assert (waiting.space_id, waiting.campaign_id) == (space_id, None)
    train(database, waiting.id)
    assert [row["version"] for row in api.get("/v1/predictors").json()] == [2, 1]
    assert trainings(database, "queued") == []
    verify(api, space_id, upload(api, delivered((4, 8))), widths=[4, 8])
    agent.work()
    assert len(trainings(database, "queued")) == 1


def test_update_waits_until_its_device_is_still(
    api: TestClient,
    agent: FakeAgent,
    space_id: str,
    predictor_id: str,
    database: Database,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training, "train", fake_train)
    patient = settings.model_copy(update={"still_seconds": 30.0})

    def moved(**columns: Any) -> None:
        with database.write() as session:
            session.execute(update(Job).where(Job.state.in_(("done", "queued"))).values(**columns))

    with registered(database) as trainer_id:

        def claimed() -> bool:
            return worker.train_next(database, patient, trainer_id, threading.Event())

        verify(api, space_id, upload(api, delivered((12, 8))), widths=[12, 8])
        agent.work()
        assert len(trainings(database, "queued")) == 1
        assert not claimed(), "the device has just measured"
        moved(finished_at=utcnow(-31))
        verify(api, space_id, upload(api, delivered((8, 12))), widths=[8, 12])
        assert not claimed(), "the device is about to measure"
        agent.work()
        moved(finished_at=utcnow(-31))
        assert claimed()
        assert not claimed(), "one update serves both"
        verify(api, space_id, upload(api, delivered((4, 12))), widths=[4, 12])
        agent.work()
        assert not claimed()
        moved(created_at=utcnow(-601))
        assert claimed(), "a device that is never still does not hold it up for ever"


def test_few_measurements_change_nothing_and_many_make_the_next_version(
    agent: FakeAgent, measure: Measure, predictor_id: str, database: Database
) -> None:
    every = [[a, b] for a in range(2, 9) for b in range(2, 9)]
    measure(every[:19], batch_size=4)
    agent.work()
    assert trainings(database, "queued") == []
    measure(every[19:40], batch_size=4)
    agent.work()
    assert len(trainings(database, "queued")) == 1


def test_nothing_is_trained_where_nobody_asked_for_a_predictor(
    api: TestClient, agent: FakeAgent, space_id: str, database: Database
) -> None:
    verify(api, space_id, upload(api, delivered()), widths=[12, 8])
    agent.work()
    assert trainings(database, "queued") == []


def test_no_update_while_a_campaign_will_train_anyway(
    api: TestClient, agent: FakeAgent, space_id: str, predictor_id: str, database: Database
) -> None:
    body = {"space_id": space_id, "device": "board", "count": 12, "repeats": 0}
    campaign = api.post("/v1/campaigns", json=body).json()
    verify(api, space_id, upload(api, delivered()), widths=[12, 8])
    lease = agent.claim()
    assert lease is not None
    assert lease["kind"] == "verify"
    agent.send(lease)
    assert trainings(database, "queued") == []
    agent.work()
    assert [job.campaign_id for job in trainings(database, "queued")] == [campaign["id"]]


def test_trainer_tells_what_it_trained_on(
    api: TestClient,
    agent: FakeAgent,
    space_id: str,
    predictor_id: str,
    database: Database,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training, "train", fake_train)
    verify(api, space_id, upload(api, delivered()), widths=[12, 8])
    agent.work()
    with registered(database) as trainer_id:
        assert worker.train_next(database, settings, trainer_id, threading.Event())
    newest = api.get("/v1/predictors").json()[0]
    measured = {row["id"] for row in api.get("/v1/measurements").json()}
    assert newest["version"] == 2
    assert set(api.get(f"/v1/predictors/{newest['id']}").json()["measurement_ids"]) == measured
    assert trainings(database, "queued") == []
