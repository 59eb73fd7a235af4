"""Pages of devices: who is online, and what a device did."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent
from latency_service.db.base import utcnow
from latency_service.db.engine import Database
from latency_service.devices import repository
from latency_service.devices.models import Agent, Device
from latency_service.devices.service import online_since
from latency_service.settings import Settings


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Those of a fleet so large that it is heard of rarely."""
    return settings.model_copy(update={"fleet_requests_per_second": 0.01})


def test_everybody_says_the_same_of_who_is_online(
    api: TestClient, settings: Settings, agent: FakeAgent, database: Database
) -> None:
    """One that was silent for a minute is there: it sends a heartbeat every 100 s."""
    with database.write() as session:
        for table in (Agent, Device):
            session.execute(update(table).values(last_seen_at=utcnow(-60.0)))
    with database.read() as session:
        since = online_since(session, settings)
        assert repository.now(session) - since > timedelta(seconds=200)
    assert api.get("/v1/devices").json()[0]["online"] is True
    assert api.get("/devices.json").json()["devices"][0]["state"] == "idle"
    assert api.get("/home.json").json()["devices_online"] == 1
    assert 'latency_service_devices{state="online"} 1.0' in api.get("/metrics").text


def test_a_timeline_says_of_how_many_attempts_it_draws_the_newest(
    api: TestClient,
    agent: FakeAgent,
    measure: Callable[..., dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measure([[8, 8], [8, 4], [4, 4]], batch_size=1)
    agent.work()
    monkeypatch.setattr("latency_service.dashboard.fleet.timeline.DRAWN", 2)
    view = api.get("/devices/board.json").json()
    assert (len(view["attempts"]), view["attempts_total"]) == (2, 3)
    assert view["begin"] == view["attempts"][-1]["leased_at"]
    text = api.get("/devices/board", headers={"accept": "text/html"}).text
    assert "The newest 2 of 3 attempts." in text
    assert api.get("/devices/board.csv").text.count("\n") == 4
