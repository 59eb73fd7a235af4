from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from httpx2 import Response
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent, bearer
from latency_service.app import create_app
from latency_service.db.migrate import upgrade
from latency_service.settings import Settings
from tests.support.settings import API_TOKEN
from tests.support.tiny import tiny_space

HTML = {"accept": "text/html"}


class Browser:
    """A client that keeps cookies and sends forms with the hidden fields of their pages."""

    def __init__(self, client: TestClient) -> None:
        self.client = client

    def open(self, path: str, **headers: str) -> Response:
        return self.client.get(path, headers={**HTML, **headers}, follow_redirects=False)

    def send(self, page: str, action: str, fields: dict[str, str], **headers: str) -> Response:
        """Send a form of a page: its hidden fields, and `fields`, which replace them."""
        hidden = hidden_fields(self.open(page).text)
        return self.client.post(
            action, data={**hidden, **fields}, headers={**HTML, **headers}, follow_redirects=False
        )

    def sign_in(self, token: str = API_TOKEN, wanted: str = "") -> Response:
        return self.send(f"/signin?next={wanted}", "/signin", {"token": token})


def hidden_fields(text: str) -> dict[str, str]:
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', text))


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path, api_token=API_TOKEN, token_cache_seconds=0.0)


@pytest.fixture
def app(settings: Settings) -> FastAPI:
    upgrade(settings)
    return create_app(settings)


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
