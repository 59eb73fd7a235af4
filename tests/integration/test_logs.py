"""Log lines about an attempt say which one it is, on the service and in the trainer."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
import structlog
from starlette.testclient import TestClient
from structlog.testing import capture_logs

from latency_service.agent.testing import FakeAgent
from latency_service.db.engine import Database
from latency_service.settings import Settings
from latency_service.training import pipeline as training
from latency_service.training import worker
from tests.support.settings import SQLITE_ONLY
from tests.support.trainings import fake_train, queue_training, registered

Measure = Callable[..., dict[str, Any]]
pytestmark = SQLITE_ONLY


def captured(event: str, logs: list[Any]) -> dict[str, Any]:
    [found] = [line for line in logs if line["event"] == event]
    return dict(found)


def test_leases_results_and_failures_carry_their_ids(
    api: TestClient, agent: FakeAgent, measure: Measure
) -> None:
    measure([[8, 8], [4, 4]], batch_size=1)
    with capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
        first = agent.claim()
        assert first is not None
        agent.send(first)
        second = agent.claim()
        assert second is not None
        agent.fail(second, "device_oom")
    ids = {"job": first["job_id"], "attempt": first["attempt_id"], "agent": agent.id}
    assert captured("result_stored", logs).items() >= ids.items()
    failed = captured("attempt_failed", logs)
    assert (failed["attempt"], failed["kind"]) == (second["attempt_id"], "device_oom")
    leased = [line["attempt"] for line in logs if line["event"] == "leased"]
    assert leased == [first["attempt_id"], second["attempt_id"]]


def test_a_training_carries_its_ids_to_its_end(
    agent: FakeAgent,
    measure: Measure,
    database: Database,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training, "train", fake_train)
    measure([[a, b] for a in range(2, 7) for b in range(2, 7)], purpose="measure")
    agent.work()
    job_id = queue_training(database)
    with (
        registered(database) as trainer,
        capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs,
    ):
        assert worker.train_next(database, settings, trainer, threading.Event())
    for event in ("training", "published"):
        assert captured(event, logs)["job"] == job_id
    assert structlog.contextvars.get_contextvars().get("job") is None, "nothing leaks"
