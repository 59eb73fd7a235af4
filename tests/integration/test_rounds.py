"""Retention of raw rounds: they go after a time, statistics stay."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent, bearer
from latency_service.app import create_app
from latency_service.db.base import utcnow
from latency_service.db.engine import Database
from latency_service.measurements import repository
from latency_service.measurements.models import Measurement
from latency_service.retention import rounds
from latency_service.settings import Settings
from tests.support.settings import API_TOKEN

Measure = Callable[..., dict[str, Any]]
DAY = 24 * 3600.0


@pytest.fixture
def measured(
    api: TestClient, agent: FakeAgent, measure: Measure, database: Database
) -> list[dict[str, Any]]:
    """Three measurements, the first two of which are 100 and 50 days old."""
    measure([[8, 8], [4, 4], [4, 8]], batch_size=1)
    agent.work()
    rows = sorted(api.get("/v1/measurements").json(), key=lambda row: row["id"])
    with database.write() as session:
        for row, days in zip(rows, (100, 50, 0), strict=True):
            aged = update(Measurement).where(Measurement.id == row["id"])
            session.execute(aged.values(created_at=utcnow(-days * DAY)))
    return rows


def kept(api: TestClient, rows: list[dict[str, Any]]) -> list[bool]:
    return [bool(api.get(f"/v1/measurements/{row['id']}").json()["rounds"]) for row in rows]


def test_old_rounds_go_and_statistics_stay(
    api: TestClient,
    database: Database,
    measured: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rounds, "CHUNK", 1)
    assert rounds.drop_rounds(database, 75) == 1
    assert kept(api, measured) == [False, True, True]
    assert rounds.drop_rounds(database, 25) == 1
    assert rounds.drop_rounds(database, 25) == 0
    assert kept(api, measured) == [False, False, True]
    after = {row["id"]: row["summary"] for row in api.get("/v1/measurements").json()}
    assert after == {row["id"]: row["summary"] for row in measured}
    with database.read() as session:
        space_id = measured[0]["space_id"]
        usable = repository.for_training(session, space_id, measured[0]["target_id"])
        assert len(usable) == 3, "they are trained on all the same"


def test_the_service_drops_them_by_itself(
    settings: Settings, api: TestClient, measured: list[dict[str, Any]]
) -> None:
    app = create_app(settings.model_copy(update={"keep_rounds_days": 75.0}))
    with TestClient(app, headers=bearer(API_TOKEN)) as other:
        deadline = time.monotonic() + 30
        while kept(other, measured)[0]:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert kept(other, measured) == [False, True, True]
