"""Predictions and artifacts over HTTP."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import onnxruntime
import pytest
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent, bearer
from latency_service.app import create_app
from latency_service.db.engine import Database
from latency_service.settings import Settings
from tests.support import fake_predictor
from tests.support.judging import sharing
from tests.support.predictions import predict, publish
from tests.support.settings import API_TOKEN, SQLITE_ONLY


@pytest.fixture
def predictor_id(api: TestClient, database: Database, agent: FakeAgent, space_id: str) -> str:
    return publish(api, database, agent, space_id)


def test_one_vector(api: TestClient, predictor_id: str) -> None:
    answer = predict(api, predictor_id, {"widths": [10, 16]})
    assert answer.status_code == 200
    body = answer.json()
    assert body["predictor_id"] == predictor_id
    assert body["latency_ms"] == pytest.approx([0.5 + 0.1 + 0.48])
    assert body["lower_ms"][0] < body["latency_ms"][0] < body["upper_ms"][0]
    assert body.get("gradient") is None


def test_predictions_are_counted_under_their_route(api: TestClient, predictor_id: str) -> None:
    predict(api, predictor_id, {"widths": [10, 16]})
    predict(api, "nothing", {"widths": [10, 16]})
    counts = [
        line
        for line in api.get("/metrics").text.splitlines()
        if "/predict" in line and "requests_total" in line
    ]
    route = 'method="POST",route="/v1/predictors/{predictor_id}/predict"'
    assert counts == [
        f'latency_service_requests_total{{{route},status="{code}"}} 1.0' for code in (200, 404)
    ]


@SQLITE_ONLY
def test_only_predictions_that_are_made_have_their_price(
    predictor_id: str, settings: Settings
) -> None:
    slow = settings.model_copy(update={"requests_per_second": 1e-3, "requests_burst": 3})
    with TestClient(sharing(create_app(slow)), headers=bearer(API_TOKEN)) as client:
        made = [predict(client, predictor_id, {"widths": [10, 16]}) for _ in range(20)]
        assert {answer.status_code for answer in made} == {200}, "as much as one other request"
        for path in ("/v1/nowhere/predict", "/v1/predictors/nothing/predict"):
            assert client.post(path, json={"widths": [10, 16]}).status_code == 404
        assert client.post("/v1/predict").status_code == 429


@pytest.mark.parametrize("count", [1, 3, 200])
def test_many_vectors_with_gradient(api: TestClient, predictor_id: str, count: int) -> None:
    widths = np.random.default_rng(count).uniform(2, 16, (count, 2))
    body = predict(api, predictor_id, {"widths": widths.tolist(), "gradient": True}).json()
    expected = fake_predictor.BASE_MS + widths @ np.array(fake_predictor.SLOPES)
    np.testing.assert_allclose(body["latency_ms"], expected, rtol=1e-5)
    np.testing.assert_allclose(
        body["gradient"], np.tile(fake_predictor.SLOPES, (count, 1)), rtol=1e-6
    )


def test_the_artifact_run_locally_gives_what_the_service_gives(
    api: TestClient, predictor_id: str
) -> None:
    answer = api.get(f"/v1/predictors/{predictor_id}/artifact")
    assert answer.headers["etag"] == f'"{hashlib.sha256(answer.content).hexdigest()}"'
    session = onnxruntime.InferenceSession(answer.content, providers=["CPUExecutionProvider"])
    [local] = session.run(["latency_ms"], {"widths": np.array([[5.5, 7.25]], np.float32)})
    assert predict(api, predictor_id, {"widths": [5.5, 7.25]}).json()[
        "latency_ms"
    ] == pytest.approx(local.tolist())


def test_unchanged_artifact_is_not_sent_again(api: TestClient, predictor_id: str) -> None:
    path = f"/v1/predictors/{predictor_id}/artifact"
    etag = api.get(path).headers["etag"]
    for sent in (etag, f'W/{etag}, "other"', "*"):
        answer = api.get(path, headers={"if-none-match": sent})
        assert (answer.status_code, answer.content) == (304, b"")
    assert api.get(path, headers={"if-none-match": '"other"'}).status_code == 200


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("widths", "words"),
    [
        ([8], "1 widths given for 2 width groups"),
        ([[8, 8], [8, 8, 8]], "3 widths given for 2 width groups"),
        ([8, 17], "Width 17 of group 'conv1' (vector 0) is out of range"),
        ([[8, 8], [1.5, 8]], "Width 1.5 of group 'conv0' (vector 1) is out of range"),
        ([], "0 widths given for 2 width groups"),
        ([[]], "0 widths given for 2 width groups"),
        (["wide"], "widths"),
        (None, "widths"),
        ([[8, 8]] * 5000, "maximum is 4096"),
    ],
)
def test_widths_that_cannot_be_are_named(
    api: TestClient, predictor_id: str, widths: Any, words: str
) -> None:
    answer = predict(api, predictor_id, {"widths": widths})
    assert answer.status_code == 422
    assert words in answer.json()["error"]["message"]
    assert answer.json()["error"]["cure"]


@SQLITE_ONLY
@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"widths": [NaN, 8]}', b'{"widths": [1e400, 8]}']
)
def test_bodies_that_are_no_request(api: TestClient, predictor_id: str, body: bytes) -> None:
    answer = api.post(f"/v1/predictors/{predictor_id}/predict", content=body)
    assert answer.status_code == 422
    assert answer.json()["error"]["code"] == "bad_request"


def test_unknown_predictor(api: TestClient) -> None:
    answer = predict(api, "nothing", {"widths": [8, 8]})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert "latency-service predictors list" in answer.json()["error"]["cure"]


def test_agents_may_not_predict(agent: FakeAgent, predictor_id: str) -> None:
    path = f"/v1/predictors/{predictor_id}/predict"
    assert agent.request("POST", path, json={"widths": [8, 8]}).status_code == 403
    assert (
        agent.http.post(path, json={"widths": [8, 8]}, headers={"authorization": ""}).status_code
        == 401
    )


def test_no_predictor_yet_names_the_command(
    api: TestClient, agent: FakeAgent, space_id: str
) -> None:
    answer = api.get("/v1/predictors", params={"space_id": space_id, "device": "board"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_ready")
    command = f"latency-service campaigns create --space {space_id[:12]} --device board"
    assert command in answer.json()["error"]["cure"]
    assert api.get("/v1/predictors").json() == []


def test_predictors_are_found_by_space_device_and_runtime(
    api: TestClient, predictor_id: str, space_id: str
) -> None:
    wanted = {
        "space_id": space_id[:10],
        "device": "board",
        "runtime": "CPUExecutionProvider/t1/b1/fp32",
    }
    [shown] = api.get("/v1/predictors", params=wanted).json()
    assert (shown["id"], shown["version"], shown["stale"]) == (predictor_id, 1, False)
    assert shown["sidecar"]["model"] == "flops-line"
    assert api.get("/v1/predictors", params={**wanted, "runtime": "other"}).status_code == 409


def test_predictor_goes_stale_when_the_fingerprint_changes(
    api: TestClient, agent: FakeAgent, predictor_id: str, space_id: str
) -> None:
    body = {"space_id": space_id, "device": "board", "purpose": "measure", "widths": [[8, 8]]}
    for facts, stale in (
        ({"cpu": "made up", "onnxruntime": "2"}, True),
        ({"cpu": "made up"}, False),
    ):
        agent.facts = facts
        api.post("/v1/campaigns", json=body)
        agent.work()
        assert api.get(f"/v1/predictors/{predictor_id}").json()["stale"] is stale
