"""Who may do what, what is refused on the way in, and a database that is not ready."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi import FastAPI
from sqlalchemy import update
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent, bearer
from latency_service.app import create_app
from latency_service.auth.models import Token
from latency_service.core.credentials import BadToken
from latency_service.db.base import utcnow
from latency_service.db.engine import Database
from latency_service.db.migrate import downgrade, upgrade
from latency_service.settings import Settings
from latency_service.web import readiness
from tests.support.settings import API_TOKEN, SQLITE_ONLY

#: Open to everybody.
OPEN = {"/healthz", "/readyz"}


def routes(app: FastAPI) -> list[tuple[str, str]]:
    paths = app.openapi()["paths"]
    return [
        (method.upper(), path)
        for path, methods in paths.items()
        for method in methods
        if path not in OPEN
    ]


@SQLITE_ONLY
def test_every_route_wants_a_token(app: FastAPI, api: TestClient) -> None:
    for method, path in routes(app):
        for header in ("", "Bearer", "Bearer   ", "Bearer nonsense", f"Basic {API_TOKEN}"):
            answer = api.request(method, path, headers={"authorization": header})
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "unauthorised"), (
                path
            )
            assert answer.json()["error"]["cure"]


@pytest.mark.parametrize("content", ["", "  \n", "cut-short"])
def test_a_service_does_not_start_with_a_token_file_that_is_empty_or_cut(
    content: str, tmp_path: Path
) -> None:
    """A full disk leaves such a file; every blank bearer token would open the service."""
    (tmp_path / "token").write_text(content)
    with pytest.raises(BadToken, match="is empty or shorter"):
        create_app(Settings(data_dir=tmp_path))


def test_enrolment_ends(api: TestClient, database: Database, enrolment: str) -> None:
    with database.write() as session:
        session.execute(update(Token).values(expires_at=utcnow(-1)))
    answer = api.post("/v1/agents/register", headers=bearer(enrolment), json={})
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "token_expired")


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("DELETE", "/v1/spaces", 405, "method_not_allowed"),
        ("POST", "/v1/campaigns", 422, "bad_request"),
        ("GET", "/v1/measurements?limit=0", 422, "bad_request"),
        ("GET", "/v1/campaigns?state=odd", 422, "bad_request"),
    ],
)
def test_every_error_has_one_form(
    api: TestClient, method: str, path: str, status: int, code: str
) -> None:
    answer = api.request(method, path)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert (set(error), error["code"]) == ({"code", "message", "cure"}, code)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/v1/devices/nowhere", "latency-service devices list"),
        ("/v1/spaces/abc", "latency-service spaces list"),
        ("/v1/campaigns/abc", "latency-service campaigns list"),
        ("/v1/predictors/abc", "latency-service predictors list"),
        ("/v1/jobs/abc", "campaign or verification"),
        ("/v1/measurements/abc", "/v1/measurements"),
        ("/v1/lattices/abc", "/v1/lattices"),
        ("/v1/runs/abc", "latency-service runs list"),
        ("/v1/models/abc", "/v1/models"),
        ("/v1/spaces/abc/graph.onnx", "latency-service spaces list"),
        ("/v1/lattices?device=nowhere", "latency-service devices list"),
        ("/v1/predictors?device=nowhere", "latency-service devices list"),
        ("/v1/devices/a%00b", ""),
    ],
)
def test_unknown_things_name_their_cure(api: TestClient, path: str, words: str) -> None:
    answer = api.get(path)
    assert answer.status_code in (404, 422)
    assert words in answer.json()["error"]["cure"]


@SQLITE_ONLY
def test_bodies_over_the_limit_are_refused_as_they_arrive(settings: Settings) -> None:
    small = settings.model_copy(
        update={"max_run_bytes": 1000, "max_space_bytes": 1000, "max_model_bytes": 1000}
    )
    with TestClient(create_app(small), headers=bearer(API_TOKEN)) as client:
        sent = 0

        def endless() -> object:
            nonlocal sent
            while sent < 100_000:
                sent += 100
                yield b" " * 100

        for method, path in (
            ("POST", "/v1/runs"),
            ("POST", "/v1/spaces"),
            ("PUT", f"/v1/models/{'0' * 64}"),
        ):
            sent = 0
            answer = client.request(
                method,
                path,
                content=endless(),  # type: ignore[arg-type]
                headers={"content-type": "application/json"},
            )
            assert answer.status_code == 413, path
            assert "1000 bytes" in answer.json()["error"]["message"]


def test_not_migrated_says_which_command(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readiness, "FRESH_SECONDS", -1.0)
    settings = Settings(database_url=empty_database_url, data_dir=tmp_path, api_token=API_TOKEN)
    with TestClient(create_app(settings), headers=bearer(API_TOKEN)) as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "not_migrated")
        for method, path in (("GET", "/v1/devices"), ("POST", "/v1/predictors/x/predict")):
            answer = client.request(method, path)
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "not_migrated")
            assert "latency-service db upgrade" in answer.json()["error"]["cure"]
        upgrade(settings)
        assert client.get("/readyz").json()["status"] == "ready"
        assert client.get("/v1/devices").json() == []
        downgrade(settings, "base")
        assert client.get("/readyz").status_code == 503


def test_unreachable_database_is_told(tmp_path: Path) -> None:
    settings = Settings(
        database_url="postgresql://nobody@localhost:1/none?connect_timeout=1",
        data_dir=tmp_path,
        api_token=API_TOKEN,
    )
    with TestClient(create_app(settings), headers=bearer(API_TOKEN)) as client:
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (503, "database_unavailable")
        answer = client.get("/v1/devices")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "database_unavailable")


def test_metrics_and_openapi(app: FastAPI, api: TestClient, agent: FakeAgent) -> None:
    text = api.get("/metrics").text
    assert (
        'latency_service_requests_total{method="POST",route="/v1/agents/register",status="201"} 1.0'
        in text
    )
    document = api.get("/openapi.json").json()
    assert document["paths"]["/v1/predictors/{predictor_id}/predict"]["post"]["requestBody"][
        "content"
    ]["application/json"]["examples"]
    assert api.get("/docs").status_code == 200
