from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent, bearer
from latency_service.app import create_app
from latency_service.db.migrate import upgrade
from latency_service.settings import Settings
from tests.support.judging import sharing
from tests.support.plain_browser import Browser
from tests.support.settings import API_TOKEN
from tests.support.tiny import tiny_space


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, api_token=API_TOKEN, token_cache_seconds=0.0)


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    upgrade(settings)
    return sharing(create_app(settings))


@pytest.fixture
def anyone(app: FastAPI) -> Iterator[Browser]:
    """A browser that is not signed in."""
    with TestClient(app) as client:
        yield Browser(client)


@pytest.fixture
def browser(anyone: Browser) -> Browser:
    """A browser that is signed in."""
    assert anyone.sign_in().status_code == 303
    return anyone


@pytest.fixture
def api(app: FastAPI) -> Iterator[Callable[..., Any]]:
    """A function that calls the API with its token: method, path, options; returns the JSON."""
    with TestClient(app, headers=bearer(API_TOKEN)) as client:

        def call(method: str, path: str, **options: Any) -> Any:
            answer = client.request(method, path, **options)
            assert answer.is_success, answer.text
            return answer.json()

        yield call


@pytest.fixture
def agent(app: FastAPI, api: Callable[..., Any]) -> Iterator[FakeAgent]:
    with TestClient(app) as client:
        yield FakeAgent(client, api("POST", "/v1/enrolments")["token"])


@pytest.fixture
def space_id(api: Callable[..., Any]) -> str:
    return str(api("POST", "/v1/spaces", content=tiny_space().data)["id"])
