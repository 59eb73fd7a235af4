"""Figures for Prometheus: what a scraper reads, on both databases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import update
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent
from latency_service.db.base import utcnow
from latency_service.db.engine import Database
from latency_service.jobs.models import Attempt, Job
from latency_service.monitoring import collector
from tests.support.settings import SQLITE_ONLY
from tests.support.trainings import registered, train

Measure = Callable[..., dict[str, Any]]
Figures = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(autouse=True)
def read_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "KEPT_SECONDS", 0.0)


def scrape(api: TestClient) -> Figures:
    """Every sample, as a scraper parses it."""
    answer = api.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return {
        (sample.name.removeprefix("latency_service_"), frozenset(sample.labels.items())): float(
            sample.value
        )
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def at(figures: Figures, name: str, **labels: str) -> float:
    return figures[name, frozenset(labels.items())]


def test_an_empty_service_has_every_figure(api: TestClient) -> None:
    found = scrape(api)
    assert at(found, "database_up") == 1
    assert at(found, "jobs", kind="measure", state="queued") == 0
    assert at(found, "oldest_waiting_seconds", kind="verify") == 0
    assert at(found, "leases") == at(found, "leases_overdue") == 0
    assert at(found, "attempt_failures_total", kind="agent_lost") == 0
    assert at(found, "agents_online", kind="trainer") == 0
    assert at(found, "devices", state="quarantined") == 0
    assert at(found, "predictors", state="stale") == 0
    assert not [name for name, _ in found if name == "predictor_error_percent"]


def test_the_queue_its_age_and_its_leases(
    api: TestClient, agent: FakeAgent, measure: Measure, database: Database
) -> None:
    measure([[8, 8], [4, 4], [4, 8]], batch_size=1)
    lease = agent.claim()
    assert lease is not None
    with database.write() as session:
        session.execute(update(Job).values(created_at=utcnow(-90)))
        session.execute(update(Attempt).values(leased_at=utcnow(-40), expires_at=utcnow(-1)))
    found = scrape(api)
    assert at(found, "jobs", kind="measure", state="queued") == 2
    assert at(found, "jobs", kind="measure", state="leased") == 1
    assert 89 < at(found, "oldest_waiting_seconds", kind="measure") < 150
    assert 39 < at(found, "oldest_lease_seconds") < 100
    assert (at(found, "leases"), at(found, "leases_overdue")) == (1, 1)


def test_failures_by_kind(api: TestClient, agent: FakeAgent, measure: Measure) -> None:
    measure([[8, 8]])
    for kind in ("runtime_crash", "device_oom"):
        lease = agent.claim()
        assert lease is not None
        agent.fail(lease, kind)
    found = scrape(api)
    assert at(found, "attempt_failures_total", kind="runtime_crash") == 1
    assert at(found, "attempt_failures_total", kind="device_oom") == 1
    assert at(found, "attempt_failures_total", kind="other") == 0
    assert at(found, "jobs", kind="measure", state="failed") == 1


def test_agents_and_devices_by_state(api: TestClient, agent: FakeAgent, database: Database) -> None:
    FakeAgent(api, str(api.post("/v1/enrolments").json()["token"]), "sick")
    api.post("/v1/devices/sick/quarantine", json={"reason": "hot"})
    with registered(database):
        found = scrape(api)
    assert at(found, "agents_online", kind="device") == 2
    assert at(found, "agents_online", kind="trainer") == 1
    assert at(found, "devices", state="online") == 1
    assert at(found, "devices", state="quarantined") == 1


def test_errors_of_current_predictors(
    api: TestClient, agent: FakeAgent, measure: Measure, database: Database
) -> None:
    measure([[8, 8]])
    agent.work()
    train(database)
    train(database)
    error = api.get("/v1/predictors").json()[0]["sidecar"]["mape"]
    found = scrape(api)
    assert at(found, "predictors", state="current") == 1, "the newest of each space and target"
    for quantile in ("0.5", "0.9", "1"):
        assert at(found, "predictor_error_percent", quantile=quantile) == pytest.approx(error)


@SQLITE_ONLY
def test_labels_are_bounded(api: TestClient) -> None:
    for number in range(20):
        api.request(f"INVENTED{number}", f"/nowhere/{number}")
        api.get(f"/v1/devices/name-{number}")
    names = {
        value
        for (name, labels) in scrape(api)
        if name == "requests_total"
        for label, value in labels
        if label in ("method", "route")
    }
    assert "other" in names
    assert not [name for name in names if "INVENTED" in name or "name-" in name]


@SQLITE_ONLY
def test_a_database_that_does_not_answer_is_a_figure(
    app: FastAPI, api: TestClient, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> Any:
        from sqlalchemy.exc import OperationalError

        raise OperationalError("SELECT", {}, Exception("gone"))

    monkeypatch.setattr("latency_service.monitoring.repository.leases", broken)
    found = scrape(api)
    assert at(found, "database_up") == 0
    assert not [name for name, _ in found if name == "jobs"]


@SQLITE_ONLY
def test_many_scrapes_ask_the_database_once(
    api: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector, "KEPT_SECONDS", 3600.0)
    asked: list[object] = []
    real = collector.repository.leases
    monkeypatch.setattr(
        "latency_service.monitoring.repository.leases",
        lambda session: asked.append(session) or real(session),
    )
    for _ in range(5):
        scrape(api)
    assert len(asked) == 1
