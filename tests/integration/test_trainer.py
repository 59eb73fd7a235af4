"""The trainer: from measurements to one published predictor, whatever is killed on the way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select, update
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent
from latency_service.core import locks
from latency_service.db.base import utcnow
from latency_service.db.engine import Database
from latency_service.devices.models import Agent
from latency_service.jobs.models import Attempt
from latency_service.jobs.sweeping import Sweeper
from latency_service.settings import Settings
from latency_service.training import pipeline as training
from latency_service.training import worker
from latency_service.training.pipeline import Trained, TrainingSet
from tests.support.trainings import fake_train, predictors, registered

Train = Callable[..., Trained]


@pytest.fixture
def campaign(api: TestClient, agent: FakeAgent, space_id: str) -> dict[str, Any]:
    """A campaign whose architectures are measured and whose training waits."""
    body = {"space_id": space_id, "device": "board", "count": 14, "repeats": 4, "batch_size": 9}
    made = api.post("/v1/campaigns", json=body).json()
    agent.work()
    after = dict(api.get(f"/v1/campaigns/{made['id']}").json())
    assert after["phase"] == "training"
    return after


def show(api: TestClient, campaign: dict[str, Any]) -> dict[str, Any]:
    return dict(api.get(f"/v1/campaigns/{campaign['id']}").json())


def run_until_ended(
    api: TestClient,
    settings: Settings,
    campaign: dict[str, Any],
    stop: threading.Event | None = None,
) -> int:
    """A trainer in this process until the campaign has ended; its exit code."""
    stop = stop or threading.Event()

    def watch() -> None:
        while not stop.is_set() and show(api, campaign)["state"] == "running":
            stop.wait(0.02)
        stop.set()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        return worker.run_trainer(settings.model_copy(update={"poll_seconds": 0.02}), stop)
    finally:
        stop.set()
        watcher.join()


@pytest.mark.slow
def test_campaign_ends_with_a_predictor_that_predicts_what_was_measured(
    api: TestClient, settings: Settings, campaign: dict[str, Any]
) -> None:
    assert run_until_ended(api, settings, campaign) == 0
    after = show(api, campaign)
    assert (after["state"], after["phase"], after["failure"]) == ("done", "done", None)
    shown = api.get(f"/v1/predictors/{after['predictor_id']}").json()
    assert (shown["version"], shown["sidecar"]["measurements"]) == (1, 14)
    rows = api.get(
        "/v1/measurements", params={"campaign_id": campaign["id"], "space_id": campaign["space_id"]}
    ).json()
    body = {"widths": [row["widths"] for row in rows]}
    predicted = api.post(f"/v1/predictors/{after['predictor_id']}/predict", json=body).json()[
        "latency_ms"
    ]
    measured = np.array([row["summary"]["latency_ms"] for row in rows])
    assert np.mean(np.abs(np.array(predicted) / measured - 1)) < 0.1


def test_training_learns_from_every_counted_ok_measurement(
    api: TestClient,
    database: Database,
    settings: Settings,
    campaign: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[TrainingSet] = []

    def watch(data: TrainingSet, *, progress: Any = None) -> Trained:
        seen.append(data)
        return fake_train(data)

    monkeypatch.setattr(training, "train", watch)
    run_until_ended(api, settings, campaign)
    [data] = seen
    assert data.widths.shape == (18, 2)
    assert len({tuple(row) for row in data.widths.tolist()}) == 14
    assert data.lattice == [[4, 8, 12, 16], [4, 8, 12, 16]]
    assert (data.half_width > 0).all()
    assert data.space.id == campaign["space_id"]
    rows = api.get("/v1/measurements", params={"space_id": campaign["space_id"]}).json()
    assert sorted(data.measurement_ids) == sorted(row["id"] for row in rows)


def test_other_targets_of_the_space_are_handed_to_the_training(
    api: TestClient,
    settings: Settings,
    agent: FakeAgent,
    space_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[TrainingSet] = []

    def watch(data: TrainingSet, *, progress: Any = None) -> Trained:
        seen.append(data)
        return fake_train(data)

    monkeypatch.setattr(training, "train", watch)
    for threads, count in ((1, 16), (2, 12)):
        body = {
            "space_id": space_id,
            "device": "board",
            "count": count,
            "repeats": count,
            "batch_size": 9,
            "runtime": {"intra_threads": threads},
        }
        made = api.post("/v1/campaigns", json=body).json()
        agent.work()
        run_until_ended(api, settings, made)
    alone, helped = seen
    assert list(alone.known) == []
    [other] = helped.known
    assert alone.fingerprint != helped.fingerprint
    np.testing.assert_array_equal(other.widths, alone.widths)
    np.testing.assert_array_equal(other.latency_ms, alone.latency_ms)


def test_versions_follow_each_other(
    api: TestClient,
    database: Database,
    settings: Settings,
    campaign: dict[str, Any],
    agent: FakeAgent,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training, "train", fake_train)
    run_until_ended(api, settings, campaign)
    again = api.post(
        "/v1/campaigns", json={"space_id": campaign["space_id"], "device": "board", "count": 12}
    ).json()
    agent.work()
    run_until_ended(api, settings, again)
    assert [row.version for row in predictors(database)] == [1, 2]
    assert show(api, again)["predictor_id"] == predictors(database)[1].id


def test_killed_trainer_that_comes_back_goes_on_at_once(
    api: TestClient,
    database: Database,
    settings: Settings,
    campaign: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def killed(data: TrainingSet, *, progress: Any = None) -> Trained:
        raise KeyboardInterrupt  # leaves everything as SIGKILL does: nothing handles it

    monkeypatch.setattr(training, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        worker.run_trainer(settings, threading.Event())
    monkeypatch.setattr(training, "train", fake_train)
    run_until_ended(api, settings, campaign)
    assert show(api, campaign)["state"] == "done"
    with database.read() as session:
        attempts = session.scalars(select(Attempt).join(Agent).where(Agent.kind == "trainer")).all()
        assert [(one.number, one.state) for one in attempts] == [(1, "expired"), (2, "done")]
        assert len({one.agent_id for one in attempts}) == 1
    assert len(predictors(database)) == 1


def test_trainer_that_lost_its_lease_publishes_nothing(
    api: TestClient,
    database: Database,
    settings: Settings,
    campaign: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    stop = threading.Event()
    with registered(database) as slow, registered(database) as fast:

        def overtaken(data: TrainingSet, *, progress: Any = None) -> Trained:
            with database.write() as session:
                session.execute(
                    update(Attempt).where(Attempt.state == "open").values(expires_at=utcnow(-1))
                )
            monkeypatch.setattr(training, "train", fake_train)
            # on another machine, where it need not wait for the turn of the slow one
            monkeypatch.setattr(locks, "lock_path", lambda: tmp_path / "elsewhere.lock")
            sweep = Sweeper(database, settings).sweep
            assert worker.train_next(database, settings, fast, stop, sweep)
            return fake_train(data)

        monkeypatch.setattr(training, "train", overtaken)
        assert worker.train_next(database, settings, slow, stop)
    assert len(predictors(database)) == 1
    assert show(api, campaign)["state"] == "done"


def test_lease_is_renewed_while_training_lasts(
    api: TestClient,
    database: Database,
    settings: Settings,
    campaign: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    brief = settings.model_copy(update={"lease_seconds": 0.6, "renew_seconds": 0.1})

    def long(data: TrainingSet, *, progress: Any = None) -> Trained:
        threading.Event().wait(1.0)
        with database.read() as session:
            late = select(Attempt.expires_at <= utcnow()).where(Attempt.state == "open")
            assert session.scalar(late) is False
        return fake_train(data)

    monkeypatch.setattr(training, "train", long)
    with registered(database) as agent_id:
        assert worker.train_next(database, brief, agent_id, threading.Event())
    assert show(api, campaign)["state"] == "done"


def test_stopped_trainer_gives_its_job_back(
    api: TestClient,
    database: Database,
    settings: Settings,
    campaign: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stop = threading.Event()

    def stopped(data: TrainingSet, *, progress: Callable[[str, float], None]) -> Trained:
        stop.set()
        progress("fitting", 0.5)
        raise AssertionError("progress should have raised")

    monkeypatch.setattr(training, "train", stopped)
    assert run_until_ended(api, settings, campaign, stop) == 0
    with registered(database) as other:
        monkeypatch.setattr(training, "train", fake_train)
        assert worker.train_next(database, settings, other, threading.Event())
    assert show(api, campaign)["state"] == "done"


@pytest.mark.parametrize(
    ("error", "tries", "words"),
    [
        (ValueError("too few architectures"), 1, "too few architectures"),
        (OSError("disk full"), 3, "disk full"),
    ],
)
def test_failing_training_fails_its_campaign(
    api: TestClient,
    database: Database,
    settings: Settings,
    campaign: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    tries: int,
    words: str,
) -> None:
    tried = []

    def broken(data: TrainingSet, *, progress: Any = None) -> Trained:
        tried.append(data)
        raise error

    monkeypatch.setattr(training, "train", broken)
    run_until_ended(api, settings, campaign)
    after = show(api, campaign)
    assert (after["state"], len(tried)) == ("failed", tries)
    assert words in after["failure"]
    assert predictors(database) == []


def test_trainer_refuses_a_database_that_is_not_migrated(
    empty_database_url: str, settings: Settings
) -> None:
    empty = settings.model_copy(update={"database_url": empty_database_url})
    assert worker.run_trainer(empty, threading.Event()) == 1
