"""A service on a real socket that knows a predictor and what a test puts into it."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from latency_service.predictors.binary import MEDIA_TYPE, decode_widths, encode
from latency_service.spaces.slicing import SearchSpace
from pruning_client.latency.predictor import LocalSource, Predictor
from tests.support import analytic

TOKEN = "unit-tests-only-0123456789"
Reply = tuple[int, Any]


@dataclass
class FakeService:
    """Answers by "METHOD /path"; several answers are given out one by one, the last for ever."""

    url: str = ""
    answers: dict[str, list[Reply]] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    artifact: bytes = b""
    predictor: Predictor | None = None

    def on(self, request: str, *bodies: Any, status: int = 200) -> None:
        self.answers[request] = [(status, body) for body in bodies]

    def fail(self, request: str, status: int, code: str, cure: str = "The cure.") -> None:
        self.on(
            request, {"error": {"code": code, "message": "The cause.", "cure": cure}}, status=status
        )

    def serve_predictor(self, space: SearchSpace) -> None:
        """Publish the truth as the predictor of the space."""
        self.artifact = analytic.artifact(space)
        view = analytic.view(analytic.sidecar(space), hashlib.sha256(self.artifact).hexdigest())
        self.predictor = Predictor(view, LocalSource(self.artifact))
        self.on("GET /v1/predictors", [view.model_dump(mode="json")])

    def reply(self, method: str, path: str, headers: Any, body: bytes) -> Reply:
        if headers.get("Authorization") != f"Bearer {TOKEN}":
            return 401, {
                "error": {
                    "code": "unauthorised",
                    "message": "The token is not known.",
                    "cure": "Give another.",
                }
            }
        self.seen.append(f"{method} {path}")
        if (
            self.predictor is not None
            and path == f"/v1/predictors/{self.predictor.view.id}/artifact"
        ):
            tag = f'"{self.predictor.view.artifact_sha256}"'
            return (304, b"") if headers.get("If-None-Match") == tag else (200, self.artifact)
        if self.predictor is not None and path.endswith("/predict"):
            if headers.get("Content-Type") == MEDIA_TYPE:
                return 200, self._predict_binary(body)
            return 200, self._predict(json.loads(body))
        queue = self.answers.get(f"{method} {path}")
        if queue is None:
            return 404, {
                "error": {
                    "code": "not_found",
                    "message": f"Nothing at {path}.",
                    "cure": "Look elsewhere.",
                }
            }
        return queue.pop(0) if len(queue) > 1 else queue[0]

    def _predict_binary(self, body: bytes) -> bytes:
        assert self.predictor is not None
        answer = self.predictor.source.evaluate(
            decode_widths(body, len(self.predictor.sidecar.groups))
        )
        return encode([answer.latency_ms, answer.lower_ms, answer.upper_ms, answer.gradient])

    def _predict(self, body: dict[str, Any]) -> dict[str, Any]:
        assert self.predictor is not None
        answer = self.predictor.evaluate(body["widths"])
        gradient = {"gradient": answer.gradient.tolist()} if body["gradient"] else {}
        return {
            "predictor_id": self.predictor.view.id,
            "latency_ms": answer.latency_ms.tolist(),
            "lower_ms": answer.lower_ms.tolist(),
            "upper_ms": answer.upper_ms.tolist(),
            **gradient,
        }


@contextmanager
def running() -> Iterator[FakeService]:
    """The service on a free port of this machine."""
    service = FakeService()

    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            status, body = service.reply(
                self.command, urlsplit(self.path).path, self.headers, self.rfile.read(length)
            )
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = _serve  # noqa: N815 the names that http.server asks for

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    service.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
