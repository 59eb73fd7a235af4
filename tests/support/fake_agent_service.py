"""A service of the job protocol over a real socket, that keeps what it was told and can be taken
away.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

ENROLMENT = "enrolment-token"
AGENT = "agent-token"
Answer = tuple[int, Any]


class FakeService:
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
        #: status of an answer that replaces the usual one, by the last part of the path
        self.instead: dict[str, int] = {}
        self._port = 0
        self._server: ThreadingHTTPServer | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Answer, at the same address as before."""
        service = self

        class Handler(BaseHTTPRequestHandler):
            def _any(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                status, answer = service._answer(self, body)
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                try:
                    self.send_response(status)
                    self.send_header("content-length", str(0 if status == 204 else len(data)))
                    self.end_headers()
                    self.wfile.write(b"" if status == 204 else data)
                except ConnectionError:
                    self.close_connection = True

            do_GET = do_POST = do_PUT = _any  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Nothing on the tests' standard error."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

        self._server = Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_port
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()

    def stop(self) -> None:
        """Answer nothing: nobody listens any more."""
        server = self._server
        self._server = None
        if server is not None:
            server.shutdown()
            server.server_close()

    def offer(self, lease: dict[str, Any]) -> None:
        self.leases.append(lease)

    def keep(self, data: bytes) -> str:
        """A file that can be fetched; its hash."""
        sha256 = hashlib.sha256(data).hexdigest()
        self.files[sha256] = data
        return sha256

    def count(self, path: str) -> int:
        return sum(path in each for _, each in self.requests)

    def _answer(self, request: BaseHTTPRequestHandler, body: bytes) -> Answer:
        path = urlsplit(request.path).path
        self.requests.append((request.command, path))
        token = (request.headers.get("authorization") or "").removeprefix("Bearer ")
        parts = path.strip("/").split("/")
        if parts[-1] in self.instead:
            return _error(self.instead[parts[-1]])
        if path == "/v1/agents/register":
            return self._register(token, body)
        if token not in self.tokens:
            return _error(401)
        routes: dict[str, Callable[[], Answer]] = {
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

    def _register(self, token: str, body: bytes) -> Answer:
        if token not in {ENROLMENT, AGENT}:
            return _error(401)
        self.registered.append(json.loads(body))
        return 201, {
            "agent_id": "a1",
            "agent_token": AGENT,
            "device_id": "d1",
            "heartbeat_seconds": 0.1,
            "poll_seconds": 0.02,
        }

    def _heartbeat(self, body: bytes) -> Answer:
        self.heartbeats.append(json.loads(body))
        return 200, {"command": self.command}

    def _lease(self) -> Answer:
        server = self._server
        until = time.monotonic() + 20
        while server is not None and server is self._server and time.monotonic() < until:
            if self.leases:
                return 200, self.leases.pop(0)
            time.sleep(0.01)
        return 204, None

    def _result(self, attempt_id: str, body: bytes) -> Answer:
        known = attempt_id in self.results
        self.results[attempt_id] = body
        return 200 if known else 201, {
            "outcome": "repeated" if known else "accepted",
            "measurement_ids": ["m1"],
        }

    def _failure(self, attempt_id: str, body: bytes) -> Answer:
        self.failures[attempt_id] = json.loads(body)
        return 200, {}


def _error(status: int) -> Answer:
    return status, {
        "error": {
            "code": f"code_{status}",
            "message": f"The service says {status}.",
            "cure": "A cure.",
        }
    }
