"""Tokens of users and agents: what they open, and when they end."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import select, update
from sqlalchemy.orm import Session
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent, bearer
from latency_service.app import create_app
from latency_service.auth import repository, service
from latency_service.auth.models import AuditEntry, ServerKey, Token, TokenSecret
from latency_service.core import tokens
from latency_service.db.base import utcnow
from latency_service.db.engine import Database
from latency_service.settings import Settings
from tests.support.agents import eventually
from tests.support.settings import API_TOKEN, SQLITE_ONLY


def create(api: TestClient, *scopes: str, **more: Any) -> dict[str, Any]:
    answer = api.post("/v1/tokens", json={"name": "ci", "scopes": list(scopes), **more})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def status(api: TestClient, token: str, path: str = "/v1/devices") -> int:
    return int(api.get(path, headers=bearer(token)).status_code)


def code(api: TestClient, token: str) -> str:
    return str(api.get("/v1/devices", headers=bearer(token)).json()["error"]["code"])


@pytest.fixture
def replica(app: FastAPI, settings: Settings) -> Iterator[TestClient]:
    """Another process of the same service, which remembers tokens for a minute."""
    remembering = settings.model_copy(update={"token_cache_seconds": 60.0})
    with TestClient(create_app(remembering), headers=bearer(API_TOKEN)) as client:
        yield client


def test_a_token_opens_what_its_scopes_say(api: TestClient) -> None:
    reader = create(api, "read")["token"]
    assert status(api, reader) == 200
    refused = api.post("/v1/campaigns", headers=bearer(reader), json={})
    assert refused.status_code == 403
    assert "'submit'" in refused.json()["error"]["message"]
    assert "latency-service tokens create" in refused.json()["error"]["cure"]
    assert status(api, create(api, "submit")["token"]) == 403


def test_admin_includes_the_other_scopes(api: TestClient) -> None:
    admin = create(api, "admin")["token"]
    assert status(api, admin) == 200
    assert status(api, admin, "/v1/tokens") == 200
    assert api.post("/v1/campaigns", headers=bearer(admin), json={}).status_code == 422


def test_only_keyed_hashes_are_stored(
    api: TestClient, agent: FakeAgent, enrolment: str, database: Database
) -> None:
    secrets = [create(api, "read")["token"], agent.token, enrolment]
    with database.read() as session:
        tables = (Token, TokenSecret, ServerKey, AuditEntry)
        rows = [session.execute(select(table.__table__)).all() for table in tables]
    held = str(rows)
    assert len(rows[1]) == 3
    for secret in (*secrets, API_TOKEN):
        assert secret not in held
        assert hashlib.sha256(secret.encode()).hexdigest() not in held


def test_a_secret_is_shown_once(api: TestClient) -> None:
    made = create(api, "read", "submit")
    [listed] = api.get("/v1/tokens", params={"kind": "user"}).json()
    assert made["token"] not in str(listed)
    assert (listed["id"], listed["name"]) == (made["id"], "ci")
    assert listed["scopes"] == ["read", "submit"]
    assert listed["expires_at"] > listed["created_at"]


def test_replicas_accept_each_others_tokens(api: TestClient, replica: TestClient) -> None:
    assert status(replica, create(api, "read")["token"]) == 200
    assert status(api, create(replica, "read")["token"]) == 200


def test_a_revoked_token_is_refused_at_once_and_by_other_replicas_soon(
    api: TestClient, replica: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = create(api, "read")
    token = made["token"]
    assert (status(api, token), status(replica, token)) == (200, 200)
    view = api.delete(f"/v1/tokens/{made['id']}").json()
    assert view["revoked_at"] is not None
    assert code(api, token) == "token_revoked"
    assert status(replica, token) == 200, "it remembers the token"
    later = time.monotonic() + 61
    served: Any = replica.app
    monkeypatch.setattr(served.state.authenticator, "_clock", lambda: later)
    assert code(replica, token) == "token_revoked"
    assert api.delete(f"/v1/tokens/{made['id']}").json() == view, "again: nothing changes"


def test_the_replica_that_revokes_forgets_at_once(replica: TestClient, settings: Settings) -> None:
    long = settings.model_copy(update={"token_cache_seconds": 3600.0})
    with TestClient(create_app(long), headers=bearer(API_TOKEN)) as api:
        made = create(api, "read")
        assert status(api, made["token"]) == 200
        assert api.delete(f"/v1/tokens/{made['id']}").status_code == 200
        assert status(api, made["token"]) == 401


def test_the_old_secret_of_a_rotated_token_stays_valid_for_the_grace(
    api: TestClient, database: Database
) -> None:
    made = create(api, "read")
    rotated = api.post(f"/v1/tokens/{made['id']}/rotate").json()
    assert (rotated["id"], rotated["scopes"]) == (made["id"], ["read"])
    assert rotated["expires_at"] == made["expires_at"]
    assert rotated["previous_valid_until"] > rotated["created_at"]
    assert [status(api, each["token"]) for each in (made, rotated)] == [200, 200]
    with database.write() as session:
        old = update(TokenSecret).where(TokenSecret.expires_at.is_not(None))
        session.execute(old.values(expires_at=utcnow(-1)))
    assert code(api, made["token"]) == "token_expired"
    assert status(api, rotated["token"]) == 200


def test_rotating_without_grace_ends_the_old_secret(api: TestClient) -> None:
    made = create(api, "read", expires_days=1)
    body = {"grace_seconds": 0, "expires_days": 30}
    rotated = api.post(f"/v1/tokens/{made['id']}/rotate", json=body).json()
    assert rotated["expires_at"] > made["expires_at"]
    assert [status(api, each["token"]) for each in (made, rotated)] == [401, 200]


def test_a_second_rotation_does_not_prolong_the_first_secret(api: TestClient) -> None:
    made = create(api, "read")
    path = f"/v1/tokens/{made['id']}/rotate"
    api.post(path, json={"grace_seconds": 0})
    second = api.post(path, json={"grace_seconds": 3600}).json()
    assert status(api, made["token"]) == 401
    assert status(api, second["token"]) == 200


def test_what_cannot_be_rotated(api: TestClient, agent: FakeAgent) -> None:
    revoked = create(api, "read")["id"]
    api.delete(f"/v1/tokens/{revoked}")
    others = [row["id"] for row in api.get("/v1/tokens").json() if row["kind"] != "user"]
    assert len(others) == 2
    for token_id in (revoked, *others):
        assert api.post(f"/v1/tokens/{token_id}/rotate").status_code == 409
    assert api.post("/v1/tokens/unknown/rotate").status_code == 404
    assert api.delete("/v1/tokens/unknown").status_code == 404


def test_an_expired_token_is_refused(api: TestClient, database: Database) -> None:
    token = create(api, "read", expires_days=1)["token"]
    lasting = create(api, "read", expires_days=None)["token"]
    with database.write() as session:
        session.execute(
            update(Token).where(Token.expires_at.is_not(None)).values(expires_at=utcnow(-1))
        )
    assert code(api, token) == "token_expired"
    assert status(api, lasting) == 200


def test_the_last_use_is_stored_at_most_once_a_minute(
    api: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = create(api, "read")
    written: list[str] = []
    record = repository.record_uses

    def counting(session: Any, token_ids: set[str]) -> None:
        written.extend(token_ids)
        record(session, token_ids)

    monkeypatch.setattr(repository, "record_uses", counting)

    def last_used() -> str | None:
        return api.get("/v1/tokens", params={"kind": "user"}).json()[0]["last_used_at"]

    assert last_used() is None
    status(api, made["token"])
    eventually(lambda: last_used() is not None)
    for _ in range(5):
        status(api, made["token"])
    assert written == [made["id"]]
    with database.write() as session:
        session.execute(update(Token).values(last_used_at=utcnow(-repository.USE_SECONDS - 1)))
    before = last_used()
    status(api, made["token"])
    eventually(lambda: last_used() != before)
    assert written == [made["id"]] * 2


def test_known_tokens_are_looked_up_once_and_checked_together(
    replica: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: Any = replica.app
    authenticator = served.state.authenticator
    made = [create(replica, "read") for _ in range(3)]
    looks: list[int] = []
    find, valid = authenticator._find, repository.valid
    monkeypatch.setattr(authenticator, "_find", lambda token: looks.append(1) or find(token))
    monkeypatch.setattr(
        repository, "valid", lambda *asked: looks.append(len(asked[1])) or valid(*asked)
    )
    for minutes in (0, 2, 4):
        later = time.monotonic() + 60 * minutes
        monkeypatch.setattr(authenticator, "_clock", lambda later=later: later)
        assert [status(replica, each["token"]) for each in made] == [200, 200, 200]
    assert looks == [1, 1, 1, 3, 3]
    with served.state.database.write() as session:
        session.execute(update(Token).where(Token.id == made[1]["id"]).values(expires_at=utcnow()))
    monkeypatch.setattr(authenticator, "_clock", lambda: time.monotonic() + 360)
    assert [status(replica, each["token"]) for each in made] == [200, 401, 200]
    monkeypatch.setattr(authenticator, "_clock", lambda: time.monotonic() + 3600)
    assert status(replica, made[0]["token"]) == 200
    assert looks[5:] == [3, 1, 2, 1], "one that was not used for long is forgotten"


def test_uses_are_recorded_after_a_restart_of_the_application(
    app: FastAPI, api: TestClient, database: Database
) -> None:
    made = create(api, "read")
    app.state.authenticator.close()
    assert status(api, made["token"]) == 200
    eventually(lambda: api.get("/v1/tokens").json()[0]["last_used_at"] is not None)


def test_a_use_that_cannot_be_stored_does_no_harm(
    api: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = create(api, "read")["token"]
    monkeypatch.setattr(repository, "record_uses", _disk_full)
    assert [status(api, token) for _ in range(3)] == [200, 200, 200]


@SQLITE_ONLY
def test_a_mistyped_token_is_told_without_the_database(
    app: FastAPI, api: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = create(api, "read")["token"]
    asked: list[str] = []
    find = app.state.authenticator._find
    monkeypatch.setattr(
        app.state.authenticator, "_find", lambda one: asked.append(one) or find(one)
    )
    mistyped = token[:-1] + ("a" if token[-1] != "a" else "b")
    for nonsense in (mistyped, token[:-1], "x", "lsu_", "x" * 100_000, "é" * 44):
        answer = api.get("/v1/devices", headers=[(b"authorization", f"Bearer {nonsense}".encode())])
        assert answer.status_code == 401
    assert asked == []
    unknown = tokens.make("user")
    assert status(api, unknown) == 401
    assert asked == [unknown]


@SQLITE_ONLY
def test_another_key_ends_all_tokens_but_the_api_token(
    api: TestClient, settings: Settings, tmp_path: Path
) -> None:
    token = create(api, "read")["token"]
    other = Settings(**{**settings.model_dump(), "token_key": "k" * 32, "api_token": API_TOKEN})
    with TestClient(create_app(other), headers=bearer(API_TOKEN)) as keyed:
        assert status(keyed, token) == 401
        assert status(keyed, API_TOKEN) == 200
        assert status(keyed, create(keyed, "read")["token"]) == 200


@SQLITE_ONLY
def test_what_was_revoked_during_a_look_up_is_not_remembered(
    app: FastAPI, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = settings.model_copy(update={"token_cache_seconds": 3600.0})
    served = create_app(long)
    with TestClient(served, headers=bearer(API_TOKEN)) as api:
        made = create(api, "read")
        authenticator = served.state.authenticator
        find = authenticator._find

        def meanwhile(token: str) -> Any:
            found = find(token)
            monkeypatch.setattr(authenticator, "_find", find)
            assert api.delete(f"/v1/tokens/{made['id']}").status_code == 200
            return found

        monkeypatch.setattr(authenticator, "_find", meanwhile)
        assert status(api, made["token"]) == 200, "looked up before it was revoked"
        assert status(api, made["token"]) == 401


def test_an_agent_gets_a_new_secret_when_its_own_is_old(
    api: TestClient, agent: FakeAgent, database: Database
) -> None:
    path = "/v1/agents/register"
    assert agent.request("POST", path, json=agent.about).json()["agent_token"] == agent.token
    with database.write() as session:
        session.execute(update(TokenSecret).values(created_at=utcnow(-31 * 86400.0)))
    fresh = agent.request("POST", path, json=agent.about).json()["agent_token"]
    assert fresh != agent.token
    for token in (agent.token, fresh):
        assert api.post("/v1/leases", headers=bearer(token)).status_code == 204
    assert api.get("/v1/audit").json()[0]["action"] == "token.rotate"
    again = agent.request("POST", path, json=agent.about).json()["agent_token"]
    assert again == agent.token, "its newest secret is not old"


def test_a_revoked_agent_gets_no_work_that_it_waits_for(
    app: FastAPI, api: TestClient, agent: FakeAgent, measure: Callable[..., dict[str, Any]]
) -> None:
    [token] = api.get("/v1/tokens", params={"kind": "agent"}).json()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(agent.claim, 30)
        eventually(lambda: not app.state.upkeep.polls.is_empty)
        assert api.delete(f"/v1/tokens/{token['id']}").status_code == 200
        assert waiting.result(timeout=20) is None
    campaign = measure([[8, 8]])
    assert agent.request("POST", "/v1/leases").status_code == 401
    assert api.get(f"/v1/campaigns/{campaign['id']}").json()["state"] == "running"


def test_ended_tokens_are_listed_for_a_month(api: TestClient, database: Database) -> None:
    old, recent, _ = (create(api, "read")["id"] for _ in range(3))
    with database.write() as session:
        for token_id, days in ((old, 31), (recent, 29)):
            ended = update(Token).where(Token.id == token_id)
            session.execute(ended.values(revoked_at=utcnow(-days * 86400.0)))
    create(api, "read")
    with database.read() as session:
        left = set(session.scalars(select(Token.id)))
    assert old not in left
    assert recent in left
    assert len(left) == 3


def _disk_full(*_: object) -> None:
    from sqlalchemy.exc import OperationalError

    raise OperationalError("UPDATE tokens", None, Exception("database or disk is full"))


def test_an_agent_that_registers_twice_at_once_gets_one_new_secret(
    api: TestClient,
    agent: FakeAgent,
    database: Database,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with database.write() as session:
        token_id = session.scalars(select(Token.id).where(Token.kind == "agent")).one()
        session.execute(update(TokenSecret).values(created_at=utcnow(-31 * 86400.0)))
    lock_token = repository.lock_token

    def locked_after_another(session: Session, token_id: str) -> Token | None:
        """The other request had the lock, and has renewed the secret."""
        session.execute(update(TokenSecret).values(created_at=utcnow()))
        return lock_token(session, token_id)

    monkeypatch.setattr(repository, "lock_token", locked_after_another)
    with database.write() as session:
        assert service.rotate_if_old(session, settings, token_id) is None
