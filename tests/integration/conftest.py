from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
from fastapi import FastAPI
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent, bearer
from latency_service.app import create_app
from latency_service.core import locks
from latency_service.db.engine import Database
from latency_service.settings import Settings
from tests.support.judging import sharing
from tests.support.settings import API_TOKEN
from tests.support.tiny import tiny_space

#: Makes an enrolment token, for any new device or for the one named.
Enrol = Callable[..., str]


@pytest.fixture(autouse=True)
def no_ids_of_other_tests() -> None:
    """A test that calls the protocol itself leaves its ids to the log lines of its thread."""
    structlog.contextvars.clear_contextvars()


@pytest.fixture(autouse=True)
def own_turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring and training are replaced or need no quiet machine, so that no test waits for the
    turn of another process.
    """
    monkeypatch.setattr(locks, "lock_path", lambda: tmp_path / "turn.lock")


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> Settings:
    return Settings(
        database_url=database_url,
        data_dir=tmp_path,
        api_token=API_TOKEN,
        lease_check_seconds=0.02,
        token_cache_seconds=0.0,
        predictor_refresh_seconds=0.0,
        still_seconds=0.0,
        # what is noted shows at once, and leases end when a test asks for it
        presence_seconds=0.0,
        sweep_seconds=600.0,
        max_lost_attempts=3,
    )


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    return sharing(create_app(settings))


@pytest.fixture
def api(app: FastAPI) -> Iterator[TestClient]:
    """A client with the API token."""
    with TestClient(app, headers=bearer(API_TOKEN)) as client:
        yield client


@pytest.fixture
def database(app: FastAPI, api: TestClient) -> Database:
    found: Database = app.state.database
    return found


@pytest.fixture
def enrol(api: TestClient) -> Enrol:
    """A function that makes an enrolment token, bound to a device or not."""

    def create(device: str | None = None) -> str:
        return str(api.post("/v1/enrolments", json={"device": device}).json()["token"])

    return create


@pytest.fixture
def enrolment(enrol: Enrol) -> str:
    """An enrolment token for one new device."""
    return enrol()


@pytest.fixture
def agent(api: TestClient, enrolment: str) -> FakeAgent:
    return FakeAgent(api, enrolment)


@pytest.fixture
def space_id(api: TestClient) -> str:
    answer = api.post("/v1/spaces", content=tiny_space().data)
    assert answer.status_code in (200, 201), answer.text
    return str(answer.json()["id"])


@pytest.fixture
def measure(api: TestClient, space_id: str) -> Callable[..., dict[str, Any]]:
    """A function that creates a campaign over given widths on the device `board`."""

    def create(widths: list[list[int]], **more: Any) -> dict[str, Any]:
        body = {
            "space_id": space_id,
            "device": "board",
            "purpose": "measure",
            "widths": widths,
            **more,
        }
        answer = api.post("/v1/campaigns", json=body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    return create
