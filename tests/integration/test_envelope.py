"""What every answer carries: headers for browsers, and the id of its request."""

from __future__ import annotations

import re

import pytest
import structlog
from fastapi import FastAPI
from starlette.testclient import TestClient

from latency_service.agent.testing import bearer
from latency_service.app import create_app
from latency_service.settings import Settings
from tests.support.settings import API_TOKEN, SQLITE_ONLY

pytestmark = SQLITE_ONLY
POLICY = "default-src 'none'; frame-ancestors 'none'"


@pytest.fixture
def broken(app: FastAPI) -> TestClient:
    """A service with a route that fails, and one with a policy of its own."""

    @app.get("/healthz/fails")
    def fails() -> None:
        raise RuntimeError("a fault")

    return TestClient(app, headers=bearer(API_TOKEN))


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", "/healthz", {}, 200),
        ("GET", "/v1/devices", {}, 200),
        ("GET", "/v1/devices", {"authorization": ""}, 401),
        ("POST", "/v1/agents/me/heartbeat", {}, 403),
        ("GET", "/nowhere", {}, 404),
        ("DELETE", "/v1/devices", {}, 405),
        ("POST", "/v1/campaigns", {}, 422),
        ("POST", "/v1/enrolments", {}, 201),
        ("GET", "/healthz/fails", {}, 500),
    ],
)
def test_every_answer_is_safe_to_show_in_a_browser(
    broken: TestClient, method: str, path: str, headers: dict[str, str], status: int
) -> None:
    answer = broken.request(method, path, headers=headers)
    assert answer.status_code == status, answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["cache-control"] == "no-store"
    assert re.fullmatch("[0-9a-f]{16}", answer.headers["x-request-id"])


def test_a_route_may_have_its_own_headers(api: TestClient, space_id: str) -> None:
    graph = api.get(f"/v1/spaces/{space_id}/graph.onnx")
    assert "immutable" in graph.headers["cache-control"]
    policy = api.get("/docs").headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")


@pytest.mark.parametrize(
    ("sent", "is_taken"),
    [("build-42.7", True), ("a" * 64, True), ("a" * 65, False), ("a b", False), ("", False)],
)
def test_a_short_and_plain_request_id_is_kept(api: TestClient, sent: str, is_taken: bool) -> None:
    answer = api.get("/healthz", headers={"x-request-id": sent})
    assert (answer.headers["x-request-id"] == sent) is is_taken


def test_logs_name_the_request(broken: TestClient, capsys: pytest.CaptureFixture[str]) -> None:
    with structlog.testing.capture_logs(
        processors=[structlog.contextvars.merge_contextvars]
    ) as logs:
        broken.get("/healthz/fails", headers={"x-request-id": "mine"})
    [entry] = [entry for entry in logs if entry["event"] == "unexpected_error"]
    assert entry["request_id"] == "mine"
    assert (entry["method"], entry["path"]) == ("GET", "/healthz/fails")


def test_a_fault_names_what_was_asked_for(broken: TestClient) -> None:
    error = broken.get("/healthz/fails").json()["error"]
    assert error["message"] == "RuntimeError in the service, at GET /healthz/fails."
    assert "X-Request-ID" in error["cure"]


def test_the_description_of_the_api_is_one_page_from_here(settings: Settings) -> None:
    opened = settings.model_copy(update={"open_docs": True})
    with TestClient(create_app(opened)) as client:
        page = client.get("/docs").text
        document = client.get("/openapi.json").json()
    assert "<script" not in page
    assert not re.search(r"(src|href)=.?(https?:)?//", page)
    for path in document["paths"]:
        assert path in page
    for name in document["components"]["schemas"]:
        assert f'id="{name}"' in page
