"""Binary batches, and architectures that are answered with their measurement."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sqlalchemy.exc import OperationalError
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent, cost_ms
from latency_service.db.engine import Database
from latency_service.predictors import binary, freshness
from latency_service.predictors.serving import Predictors
from tests.support import fake_predictor
from tests.support.predictions import predict, publish
from tests.support.settings import SQLITE_ONLY
from tests.support.verifications import delivered, upload, verify

Measure = Callable[..., dict[str, Any]]


@pytest.fixture
def predictor_id(api: TestClient, database: Database, agent: FakeAgent, space_id: str) -> str:
    return publish(api, database, agent, space_id)


def send(api: TestClient, predictor_id: str, body: bytes, **params: Any) -> Any:
    headers = {"content-type": "application/octet-stream"}
    return api.post(
        f"/v1/predictors/{predictor_id}/predict", content=body, headers=headers, params=params
    )


@pytest.mark.parametrize("count", [1, 255, 257, 1024])
def test_binary_gives_what_json_gives(api: TestClient, predictor_id: str, count: int) -> None:
    widths = np.random.default_rng(count).uniform(2, 16, (count, 2)).astype("<f4")
    asked = {"widths": widths.tolist(), "gradient": True}
    told = predict(api, predictor_id, asked).json()
    raw = send(api, predictor_id, widths.tobytes(), gradient="true")
    assert raw.headers["content-type"] == "application/octet-stream"
    assert (raw.headers["x-predictor-id"], raw.headers["x-stale"]) == (predictor_id, "false")
    answer = binary.decode_answer(raw.content, 2, gradient=True)
    for name in ("latency_ms", "lower_ms", "upper_ms", "gradient"):
        np.testing.assert_array_equal(getattr(answer, name), np.float32(told[name]))
    plain = send(api, predictor_id, widths.tobytes()).content
    assert plain == raw.content[: 3 * 4 * count]


@SQLITE_ONLY
@pytest.mark.parametrize(
    ("body", "params", "words"),
    [
        (b"", {}, "0 bytes are no whole number of width vectors: 2 groups make 8 bytes each"),
        (b"\0" * 12, {}, "12 bytes"),
        (np.float32([8, 17]).tobytes(), {}, "Width 17 of group 'conv1' (vector 0) is out of range"),
        (np.float32([8, np.nan]).tobytes(), {}, "not a finite number"),
        (
            np.float32([[8, 8]] * 4097).tobytes(),
            {},
            "4097 architectures in one request; the maximum is 4096",
        ),
        (
            np.float32([8, 8]).tobytes(),
            {"gradient": "yes"},
            "gradient: 'yes' is neither true nor false",
        ),
    ],
)
def test_binary_bodies_that_cannot_be_are_named(
    api: TestClient, predictor_id: str, body: bytes, params: dict[str, str], words: str
) -> None:
    answer = send(api, predictor_id, body, **params)
    assert answer.status_code == 422
    assert words in answer.json()["error"]["message"]
    assert answer.json()["error"]["cure"]


def test_measured_architectures_are_answered_with_their_measurement(
    api: TestClient, agent: FakeAgent, measure: Measure, predictor_id: str
) -> None:
    before = predict(api, predictor_id, {"widths": [12, 8]}).json()
    assert (before["source"], before["measurement_id"]) == (["predicted"], [None])
    measure([[12, 8]])
    agent.work()
    [row] = api.get("/v1/measurements", params={"limit": 1}).json()
    answer = predict(api, predictor_id, {"widths": [[12, 16], [12.0, 8]]}).json()
    assert answer["source"] == ["predicted", "measured"]
    assert answer["measurement_id"] == [None, row["id"]]
    assert (
        answer["latency_ms"][1]
        == row["summary"]["latency_ms"]
        == pytest.approx(cost_ms([12, 8]), rel=1e-3)
    )
    assert [answer["lower_ms"][1], answer["upper_ms"][1]] == [
        row["summary"][k] for k in ("lower_ms", "upper_ms")
    ]


def test_gradients_and_binary_are_always_the_predictors(api: TestClient, predictor_id: str) -> None:
    predicted = fake_predictor.BASE_MS + 8 * sum(fake_predictor.SLOPES)
    for more in ({"gradient": True}, {"measured": False}):
        answer = predict(api, predictor_id, {"widths": [8, 8], **more}).json()
        assert answer["latency_ms"] == pytest.approx([predicted])
        assert answer["source"] == ["predicted"]
    raw = binary.decode_answer(
        send(api, predictor_id, np.float32([8, 8]).tobytes()).content, 2, gradient=False
    )
    assert raw.latency_ms == pytest.approx([predicted])
    assert predict(api, predictor_id, {"widths": [8, 8]}).json()["source"] == ["measured"]


def test_unstable_measurements_and_those_of_other_targets_answer_nothing(
    api: TestClient, agent: FakeAgent, measure: Measure, predictor_id: str
) -> None:
    measure([[4, 4]])
    lease = agent.claim()
    assert lease is not None
    body = agent.result(lease)
    for k, one in enumerate(body["results"][0]["rounds"]):
        one["latency_ms"] *= 1 + 0.5 * (k % 2)
    assert agent.send(lease, body).status_code == 201
    measure([[4, 8]], runtime={"intra_threads": 2})
    agent.work()
    assert predict(api, predictor_id, {"widths": [[4, 4], [4, 8]]}).json()["source"] == [
        "predicted",
        "predicted",
    ]


def test_stale_predictors_answer_with_the_cure(
    api: TestClient, agent: FakeAgent, measure: Measure, predictor_id: str, space_id: str
) -> None:
    fresh = predict(api, predictor_id, {"widths": [8, 8]}).json()
    assert (fresh["stale"], fresh["cure"]) == (False, None)
    agent.facts = {"cpu": "made up", "onnxruntime": "2"}
    measure([[8, 8]])
    agent.work()
    cure = f"latency-service campaigns create --space {space_id[:12]} --device board --repair"
    answer = predict(api, predictor_id, {"widths": [10, 10]}).json()
    assert answer["stale"] is True
    assert cure in answer["cure"]
    assert cure in api.get(f"/v1/predictors/{predictor_id}").json()["cure"]
    assert send(api, predictor_id, np.float32([8, 8]).tobytes()).headers["x-stale"] == "true"


def test_a_delivered_file_without_widths_answers_nothing_and_breaks_nothing(
    api: TestClient, agent: FakeAgent, predictor_id: str, space_id: str
) -> None:
    sha256 = upload(api, delivered())
    verify(api, space_id, sha256)
    agent.work()
    assert predict(api, predictor_id, {"widths": [12, 8]}).json()["source"] == ["predicted"]


def test_facts_are_read_again_only_after_their_time_and_outlive_the_database(
    database: Database, predictor_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictors = Predictors(database, 4, 60.0)
    assert predictors.known(predictor_id) is None
    first = predictors.load(predictor_id)
    assert predictors.known(predictor_id) is predictors.load(predictor_id) is first

    always = Predictors(database, 4, 0.0)
    before = always.load(predictor_id)

    def broken(*_: Any) -> Any:
        raise OperationalError("SELECT", {}, Exception("the server is gone"))

    monkeypatch.setattr(freshness, "look", broken)
    after = always.load(predictor_id)
    assert after.freshness is before.freshness
    assert after.loaded is before.loaded
    with pytest.raises(OperationalError):
        Predictors(database, 4, 0.0).load(predictor_id)


def test_measurements_are_read_again_only_when_there_are_others(
    database: Database, predictor_id: str
) -> None:
    predictors = Predictors(database, 4, 0.0)
    first = predictors.load(predictor_id)
    second = predictors.load(predictor_id)
    assert second.looked_at > first.looked_at
    assert second.freshness.measured is first.freshness.measured
