"""A scripted service that knows a predictor, and refuses requests without its token."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from latency_service.predictors.binary import MEDIA_TYPE, decode_widths, encode
from latency_service.spaces.slicing import SearchSpace
from pruning_client.latency.predictor import LocalSource, Predictor
from tests.support import analytic
from tests.support.http_server import Reply, Request
from tests.support.scripted_service import ScriptedService, refusal

TOKEN = "unit-tests-only-0123456789"


@dataclass
class PredictorService(ScriptedService):
    """Replies by "METHOD /path", whatever the query."""

    artifact: bytes = b""
    predictor: Predictor | None = None

    def serve_predictor(self, space: SearchSpace) -> None:
        """Publish the truth as the predictor of the space."""
        self.artifact = analytic.artifact(space)
        view = analytic.view(analytic.sidecar(space), hashlib.sha256(self.artifact).hexdigest())
        self.predictor = Predictor(view, LocalSource(self.artifact))
        self.on("GET /v1/predictors", [view.model_dump(mode="json")])

    def reply(self, request: Request) -> Reply:
        if request.authorization != f"Bearer {TOKEN}":
            return 401, refusal("unauthorised", "The token is not known.", "Give another.")
        self.seen.append(request)
        if self.predictor is not None and request.path.endswith("/artifact"):
            return self._artifact(self.predictor, request)
        if self.predictor is not None and request.path.endswith("/predict"):
            if request.content_type == MEDIA_TYPE:
                return 200, _predict_binary(self.predictor, request.content)
            return 200, _predict(self.predictor, json.loads(request.content))
        return self.scripted(f"{request.method} {request.path}")

    def _artifact(self, predictor: Predictor, request: Request) -> Reply:
        is_kept = request.if_none_match == f'"{predictor.view.artifact_sha256}"'
        return (304, b"") if is_kept else (200, self.artifact)


def _predict_binary(predictor: Predictor, content: bytes) -> bytes:
    answer = predictor.source.evaluate(decode_widths(content, len(predictor.sidecar.groups)))
    return encode([answer.latency_ms, answer.lower_ms, answer.upper_ms, answer.gradient])


def _predict(predictor: Predictor, body: dict[str, Any]) -> dict[str, Any]:
    answer = predictor.evaluate(body["widths"])
    gradient = {"gradient": answer.gradient.tolist()} if body["gradient"] else {}
    return {
        "predictor_id": predictor.view.id,
        "latency_ms": answer.latency_ms.tolist(),
        "lower_ms": answer.lower_ms.tolist(),
        "upper_ms": answer.upper_ms.tolist(),
        **gradient,
    }
