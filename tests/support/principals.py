"""Every kind of token of one service, and the things that an agent may and may not touch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import httpx2
from fastapi import FastAPI
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent, bearer
from latency_service.auth.authenticator import USER_SCOPES
from tests.support.tiny import campaign_of, tiny_space
from tests.support.verifications import delivered, verify

#: An id that belongs to nothing.
NOTHING = "0" * 32
_FILE = delivered()
_FILE_SHA256 = hashlib.sha256(_FILE).hexdigest()
FAILURE = {"kind": "internal", "message": "gave up"}


@dataclass
class Asker:
    """One way to ask: who sends the request, and whose things it names."""

    token: str | None
    #: Values of the path's parameters.
    ids: dict[str, str]
    body: Any


class Principals:
    """Tokens of all kinds, and two agents of different devices with an attempt each."""

    def __init__(self, app: FastAPI, api: TestClient) -> None:
        self.app = app
        self.api = api
        self.agent = FakeAgent(api, self._enrol(), "board")
        self.stranger = FakeAgent(api, self._enrol(), "other")
        self.space_id = api.post("/v1/spaces", content=tiny_space().data).json()["id"]
        self.lease: dict[str, Any] = {}
        self.users = {scope: self._user(scope) for scope in USER_SCOPES}

    def names(self) -> list[str]:
        return ["nobody", *USER_SCOPES, "enrolment", "agent", "foreign agent"]

    def ask(self, name: str, method: str, path: str) -> httpx2.Response:
        """A request to a route of the API, by one kind of token. An agent asks for what it works
        on, a foreign agent for what another works on.
        """
        asker = self._asker(name, path)
        headers = {"authorization": ""} if asker.token is None else bearer(asker.token)
        sent = None if method == "GET" else asker.body
        return self.api.request(method, path.format(**asker.ids), headers=headers, json=sent)

    def _asker(self, name: str, path: str) -> Asker:
        ids = dict.fromkeys(_parameters(path), NOTHING)
        if name == "nobody":
            return Asker(None, ids, {})
        if name == "enrolment":
            return Asker(self._enrol(), ids, {})
        if name in self.users:
            return Asker(self.users[name], ids, {})
        if {"attempt_id", "sha256"} & set(ids):
            ids |= self._work(path)
        if name == "agent":
            return Asker(self.agent.token, ids, {})
        return Asker(self.stranger.token, ids, self._valid_body(path))

    def _work(self, path: str) -> dict[str, str]:
        """What the agent works on at the moment; a fresh attempt."""
        if path.startswith("/v1/models"):
            self.api.put(f"/v1/models/{_FILE_SHA256}", content=_FILE)
            verify(self.api, self.space_id, _FILE_SHA256)
        else:
            self.api.post("/v1/campaigns", json=campaign_of(tiny_space(), 1, device="board"))
        lease = self.agent.claim()
        assert lease is not None
        self.lease = lease
        file = lease["model_sha256"] or lease["space_id"]
        return {"attempt_id": lease["attempt_id"], "sha256": file}

    def _valid_body(self, path: str) -> Any:
        """A body that passes the schema, so that what refuses the request is whose it is."""
        if path.endswith("/register"):
            return self.agent.about
        if path.endswith("/result"):
            return self.agent.result(self.lease)
        return FAILURE if path.endswith("/failure") else {"state": "idle"}

    def _enrol(self) -> str:
        return str(self.api.post("/v1/enrolments").json()["token"])

    def _user(self, scope: str) -> str:
        body = {"name": scope, "scopes": [scope]}
        return str(self.api.post("/v1/tokens", json=body).json()["token"])


def _parameters(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]
