"""A service of the job protocol over a real socket, that keeps what it was told and can be taken
away.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from typing import Any

from tests.support.http_server import LocalServer, Reply, Request
from tests.support.scripted_service import refusal

ENROLMENT = "enrolment-token"
AGENT = "agent-token"


class FakeAgentService:
    """Leases what is in `leases`, holds long polls while there is nothing, and writes down every
    request.
    """

    def __init__(self) -> None:
        self.leases: list[dict[str, Any]] = []
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.registered: list[dict[str, Any]] = []
        self.heartbeats: list[dict[str, Any]] = []
        self.results: dict[str, bytes] = {}
        self.failures: dict[str, dict[str, Any]] = {}
        self.tokens = {AGENT}
        self.command = "continue"
        self.cadence = dict(CADENCE)
        #: status of an answer that replaces the usual one, by the last part of the path
        self.instead: dict[str, int] = {}
        self._server = LocalServer(self._reply)
        self.start()

    @property
    def url(self) -> str:
        return self._server.url

    def start(self) -> None:
        """Answer, at the same address as before."""
        self._server.start()

    def stop(self) -> None:
        """Answer nothing: nobody listens any more."""
        self._server.stop()

    def offer(self, lease: dict[str, Any]) -> None:
        self.leases.append(lease)

    def keep(self, data: bytes) -> str:
        """A file that can be fetched; its hash."""
        sha256 = hashlib.sha256(data).hexdigest()
        self.files[sha256] = data
        return sha256

    def count(self, path: str) -> int:
        return sum(path in each for _, each in self.requests)

    def _reply(self, request: Request) -> Reply:
        path = request.path
        body = request.content
        self.requests.append((request.method, path))
        token = (request.authorization or "").removeprefix("Bearer ")
        parts = path.strip("/").split("/")
        if parts[-1] in self.instead:
            return _error(self.instead[parts[-1]])
        if path == "/v1/agents/register":
            return self._register(token, body)
        if token not in self.tokens:
            return _error(401)
        routes: dict[str, Callable[[], Reply]] = {
            "heartbeat": lambda: self._heartbeat(body),
            "leases": self._lease,
            "renew": lambda: (200, {"lease_seconds": 30}),
            "result": lambda: self._result(parts[2], body),
            "failure": lambda: self._failure(parts[2], body),
            "graph.onnx": lambda: (200, self.files[parts[2]]),
        }
        if parts[1] == "models":
            return 200, self.files[parts[2]]
        return routes[parts[-1]]()

    def _register(self, token: str, body: bytes) -> Reply:
        if token not in {ENROLMENT, *self.tokens}:
            return _error(401)
        self.tokens.add(AGENT)
        self.registered.append(json.loads(body))
        return 201, {
            "agent_id": "a1",
            "agent_token": AGENT,
            "device_id": "d1",
            "cadence": CADENCE,
        }

    def _heartbeat(self, body: bytes) -> Reply:
        self.heartbeats.append(json.loads(body))
        return 200, {"command": self.command, "cadence": self.cadence}

    def _lease(self) -> Reply:
        run = self._server.run
        until = time.monotonic() + 20
        while run is not None and run is self._server.run and time.monotonic() < until:
            if self.leases:
                return 200, self.leases.pop(0)
            time.sleep(0.01)
        return 204, None

    def _result(self, attempt_id: str, body: bytes) -> Reply:
        known = attempt_id in self.results
        self.results[attempt_id] = body
        return 200 if known else 201, {
            "outcome": "repeated" if known else "accepted",
            "measurement_ids": ["m1"],
        }

    def _failure(self, attempt_id: str, body: bytes) -> Reply:
        self.failures[attempt_id] = json.loads(body)
        return 200, {}


CADENCE = {"heartbeat_seconds": 0.1, "poll_seconds": 0.02, "wait_seconds": 25.0}


def _error(status: int) -> Reply:
    return status, refusal(f"code_{status}", f"The service says {status}.", "A cure.")
