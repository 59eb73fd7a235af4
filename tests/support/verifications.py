"""Verification requests over HTTP."""

from __future__ import annotations

import hashlib
from typing import Any

from starlette.testclient import TestClient

from latency_service.spaces.slicing import materialise
from latency_service.spaces.weightless import draw_weights
from tests.support.tiny import tiny_space


def delivered(widths: tuple[int, int] = (12, 8)) -> bytes:
    return bytes(draw_weights(materialise(tiny_space(), widths)).SerializeToString())


def upload(api: TestClient, data: bytes) -> str:
    sha256 = hashlib.sha256(data).hexdigest()
    answer = api.put(f"/v1/models/{sha256}", content=data)
    assert answer.status_code == 201, answer.text
    return sha256


def verify(api: TestClient, space_id: str, sha256: str, **more: Any) -> Any:
    body = {"device": "board", "model_sha256": sha256, "space_id": space_id, **more}
    return api.post("/v1/verifications", json=body)
