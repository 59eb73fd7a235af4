"""Live parts of pages: what is read and sent, and how a stream ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from fastapi import FastAPI, Request
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent
from latency_service.dashboard import live
from latency_service.dashboard.campaigns.pages import campaign_parts
from latency_service.dashboard.home.pages import home_parts
from latency_service.dashboard.live import Snapshot
from latency_service.dashboard.runs.pages import run_parts
from latency_service.db.engine import Database
from tests.support.databases import statements

RUN = {"name": "net", "method": "gdp", "predictor_id": None, "budget_ms": 1.2}


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks follow each other without a pause, and no text tells the time."""
    monkeypatch.setattr(live, "INTERVAL_SECONDS", 0.0)
    monkeypatch.setattr("latency_service.dashboard.formatting._rough", lambda seconds: "a while")


def events(
    app: FastAPI, snapshot: Snapshot, between: Sequence[Callable[[], object]] = (), **path: str
) -> list[dict[str, Any]]:
    """Data of a stream's events until it ends; one of `between` is called after each event."""
    scope = {"type": "http", "app": app, "path": "/", "query_string": b"", "headers": []}
    request = Request({**scope, "server": ("test", 80), "path_params": path})
    return asyncio.run(_gather(request, snapshot, list(between)))


async def _gather(
    request: Request, snapshot: Snapshot, between: list[Callable[[], object]]
) -> list[dict[str, Any]]:
    found = []
    async for sent in live._events(request, snapshot):
        if sent.data is None:
            continue
        found.append(sent.data)
        if not between:
            break
        await asyncio.to_thread(between.pop(0))
    return found


def test_only_what_has_changed_is_sent_and_the_end_last(
    api: TestClient, app: FastAPI, space_id: str
) -> None:
    run = api.post("/v1/runs", json={**RUN, "space_id": space_id}).json()["id"]

    def go_on() -> None:
        news = {"phase": "prune", "done": 3, "total": 9}
        assert api.put(f"/v1/runs/{run}/progress", json=news).is_success

    def end() -> None:
        assert api.put(f"/v1/runs/{run}/failure", json={"message": "Enough"}).is_success

    first, second, last = events(app, run_parts, [go_on, end, lambda: None], run_id=run)
    assert set(first["html"]) == {"run-head", "run-verified"}
    assert "trajectory" in first["figures"]
    assert set(second["html"]) == {"run-head"}
    assert (second["figures"], second["final"]) == ({}, False)
    assert last["final"] is True
    assert "Enough" in last["html"]["run-head"]


def test_the_last_state_of_a_campaign_is_sent(
    api: TestClient, app: FastAPI, agent: FakeAgent, measure: Callable[..., dict[str, Any]]
) -> None:
    campaign = measure([[8, 8]])["id"]
    *_, last = events(app, campaign_parts, [agent.work, lambda: None], campaign_id=campaign)
    assert last["final"] is True
    assert "done" in last["html"]["state"]
    assert "1 of 1" in last["html"]["progress"]


def test_the_first_page_reads_no_lists_to_show_what_runs_now(
    api: TestClient, app: FastAPI, database: Database
) -> None:
    with statements(database) as sent:
        (first,) = events(app, home_parts)
    assert set(first["html"]) == {"now"}
    assert sent
    for table in ("measurements", "predictors", "runs", "campaigns"):
        assert not [text for text in sent if f"FROM {table}" in text], table
