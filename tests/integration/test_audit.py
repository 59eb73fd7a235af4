"""Whatever a user or an agent's registration changes leaves one entry in the audit log."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI
from sqlalchemy import update
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent, bearer
from latency_service.auth.access import USER_TOKEN
from latency_service.auth.models import AuditEntry
from latency_service.db.base import utcnow
from latency_service.db.engine import Database
from tests.support.tiny import campaign_of, tiny_space
from tests.support.verifications import delivered

#: Changes nothing, and comes once a second between a run's beginning and its end.
NOT_WRITTEN = ("/v1/predictors/{predictor_id}/predict", "/v1/runs/{run_id}/progress")


def entries(api: TestClient, **filters: Any) -> list[dict[str, Any]]:
    return list(api.get("/v1/audit", params=filters).json())


def changes(app: FastAPI) -> set[tuple[str, str]]:
    """Every route by which a user changes something."""
    return {
        (method.upper(), path)
        for path, methods in app.openapi()["paths"].items()
        for method, operation in methods.items()
        if method != "get" and path not in NOT_WRITTEN
        if any(USER_TOKEN in one for one in operation.get("security", []))
    }


def test_every_change_is_written_down(app: FastAPI, api: TestClient, agent: FakeAgent) -> None:
    done: list[tuple[str, str]] = []

    def change(method: str, path: str, action: str, *, id_of: str = "id", **sent: Any) -> Any:
        ids = sent.pop("ids", {})
        answer = api.request(method, path.format(**ids), **sent)
        assert answer.is_success, answer.text
        entry = entries(api)[0]
        expected = ids.get(id_of) or answer.json().get(id_of)
        assert (entry["action"], entry["object_id"]) == (action, expected)
        assert (entry["token_id"], entry["token_name"]) == ("api-token", "API token")
        assert len(entries(api)) == begun + len(done) + 1
        done.append((method, path))
        return answer.json() if answer.content else None

    begun = len(entries(api))
    space = tiny_space()
    file = delivered()
    sha256 = hashlib.sha256(file).hexdigest()
    change("POST", "/v1/enrolments", "enrolment.create")
    token = change("POST", "/v1/tokens", "token.create", json={"name": "ci", "scopes": ["read"]})
    ids = {"token_id": token["id"]}
    rotate = "/v1/tokens/{token_id}/rotate"
    change("POST", rotate, "token.rotate", id_of="token_id", ids=ids)
    change("DELETE", "/v1/tokens/{token_id}", "token.revoke", id_of="token_id", ids=ids)
    change("POST", "/v1/spaces", "space.upload", content=space.data)
    body = {**campaign_of(space, 1), "device": "board"}
    campaign = change("POST", "/v1/campaigns", "campaign.create", json=body)
    cancel = "/v1/campaigns/{campaign_id}/cancel"
    ids = {"campaign_id": campaign["id"]}
    change("POST", cancel, "campaign.cancel", id_of="campaign_id", ids=ids)
    ids = {"sha256": sha256}
    change("PUT", "/v1/models/{sha256}", "model.upload", id_of="sha256", ids=ids, content=file)
    body = {"device": "board", "space_id": space.id, "model_sha256": sha256}
    change("POST", "/v1/verifications", "verification.create", json=body)
    body = {
        "name": "run",
        "method": "gates",
        "space_id": space.id,
        "predictor_id": None,
        "budget_ms": 1.0,
    }
    run = change("POST", "/v1/runs", "run.create", json=body)
    ids = {"run_id": run["id"]}
    failed = {"message": "stopped"}
    change("PUT", "/v1/runs/{run_id}/failure", "run.fail", id_of="run_id", ids=ids, json=failed)
    report: dict[str, Any] = {"report": {}}
    change("PUT", "/v1/runs/{run_id}/report", "run.finish", id_of="run_id", ids=ids, json=report)
    change("POST", "/v1/sign-in-codes", "sign_in_code.create")
    ids = {"name": "board"}
    body = {"reason": "its fan is broken"}
    path = "/v1/devices/{name}/quarantine"
    change("POST", path, "device.quarantine", id_of="name", ids=ids, json=body)
    path = "/v1/devices/{name}/release"
    change("POST", path, "device.release", id_of="name", ids=ids)
    change(
        "DELETE",
        "/v1/devices/{name}/measurements",
        "device.forget",
        id_of="name",
        ids={"name": "board"},
        params={"confirm": "board"},
    )
    assert set(done) == changes(app)


def test_a_refused_change_is_not_written_down(api: TestClient) -> None:
    assert api.post("/v1/campaigns/none/cancel").status_code == 404
    assert api.post("/v1/tokens", json={}).status_code == 422
    assert entries(api) == []


def test_who_did_it(api: TestClient, enrolment: str) -> None:
    body = {"name": "colleague", "scopes": ["admin"]}
    token = api.post("/v1/tokens", json=body).json()
    api.post("/v1/enrolments", headers=bearer(token["token"]))
    agent = FakeAgent(api, enrolment)
    registered, created, *_ = entries(api)
    assert (created["token_name"], created["token_id"]) == ("colleague", token["id"])
    assert (registered["action"], registered["object_id"]) == ("agent.register", agent.id)
    assert registered["token_name"] == "any new device"


def test_entries_are_paged_and_filtered(api: TestClient) -> None:
    for k in range(5):
        api.post("/v1/tokens", json={"name": f"t{k}", "scopes": ["read"]})
    api.post("/v1/enrolments")
    assert len(entries(api)) == 6
    assert len(entries(api, action="token.create")) == 5
    first, second = (entries(api, limit=3, offset=k) for k in (0, 3))
    assert first + second == entries(api)


def test_old_entries_are_deleted(
    api: TestClient, database: Database, enrol: Callable[..., str]
) -> None:
    enrol()
    enrol()
    newest = entries(api)[0]["id"]
    with database.write() as session:
        old = update(AuditEntry).where(AuditEntry.id != newest)
        session.execute(old.values(at=utcnow(-366 * 86400.0)))
    enrol()
    assert newest in [entry["id"] for entry in entries(api)]
    assert len(entries(api)) == 2
