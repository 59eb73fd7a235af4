"""The HTTP SDK against a fake service on a real socket."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from latency_service.campaigns.schemas import CampaignView
from latency_service.core.client import Client, Timeout
from latency_service.core.credentials import DEFAULT_URL
from latency_service.core.transport import ApiError, Unreachable
from latency_service.devices.schemas import RuntimeConfig
from pruning_client.graph.space import Traced
from tests.support.predictor_service import TOKEN, PredictorService

NOW = "2025-06-01T12:00:00Z"


def campaign(**more: Any) -> dict[str, Any]:
    return {
        "id": "c1",
        "space_id": "5" * 64,
        "device_id": "d1",
        "device": "board",
        "runtime": RuntimeConfig().model_dump(),
        "purpose": "predictor",
        "state": "running",
        "phase": "measuring",
        "jobs_total": 2,
        "jobs_done": 0,
        "jobs_failed": 0,
        "architectures_total": 32,
        "architectures_measured": 0,
        "created_at": NOW,
        "finished_at": None,
        "predictor_id": None,
        "failure": None,
        **more,
    }


def test_waits_for_a_campaign_and_shows_every_look(
    service: PredictorService, client: Client
) -> None:
    service.on(
        "GET /v1/campaigns/c1",
        campaign(),
        campaign(architectures_measured=16),
        campaign(state="done", phase="done"),
    )
    seen: list[CampaignView] = []
    done = client.wait_for_campaign("c1", timeout_seconds=10, on_view=seen.append)
    assert done.state == "done"
    assert [view.architectures_measured for view in seen] == [0, 16, 0]


def test_waiting_has_an_end(service: PredictorService) -> None:
    service.on("GET /v1/campaigns/c1", campaign())
    times = iter(range(0, 1000, 10))
    with (
        Client(service.url, TOKEN, sleep=lambda _s: None, clock=lambda: next(times)) as client,
        pytest.raises(Timeout, match="not finished after 25 s") as caught,
    ):
        client.wait_for_campaign("c1", timeout_seconds=25)
    assert "latency-service campaigns show c1" in caught.value.cure


def test_the_artifact_is_fetched_once_and_checked(
    traced: Traced, service: PredictorService, client: Client
) -> None:
    service.serve_predictor(traced.space)
    (view,) = client.predictors()
    first = client.artifact(view)
    second = client.artifact(view)
    assert first == second == service.artifact
    assert hashlib.sha256(first).hexdigest() == view.artifact_sha256
    service.artifact = b"another file"
    assert client.artifact(view) == first  # the tag still matches: 304 and the kept file


def test_a_damaged_artifact_is_refused(
    traced: Traced, service: PredictorService, client: Client
) -> None:
    service.serve_predictor(traced.space)
    (view,) = client.predictors()
    service.artifact += b"!"
    with pytest.raises(ApiError, match="does not have the hash"):
        client.artifact(view)


def test_a_damaged_kept_file_is_fetched_again(
    traced: Traced, service: PredictorService, client: Client, tmp_path: Path
) -> None:
    service.serve_predictor(traced.space)
    (view,) = client.predictors()
    client.artifact(view)
    (kept,) = tmp_path.rglob("*.onnx")
    kept.write_bytes(b"damaged")
    assert client.artifact(view) == service.artifact
    assert kept.read_bytes() == service.artifact


def test_overload_is_tried_again(service: PredictorService, client: Client) -> None:
    error = {"error": {"code": "unavailable", "message": "Busy.", "cure": ""}}
    service.replies["GET /v1/devices"] = [(503, error), (503, error), (200, [])]
    assert client.devices() == []
    assert len(service.seen) == 3


def test_a_refusal_is_not(service: PredictorService, client: Client) -> None:
    service.refuse("GET /v1/devices", 403, "forbidden")
    with pytest.raises(ApiError, match="The cause"):
        client.devices()
    assert len(service.seen) == 1


def test_nobody_there() -> None:
    with (
        Client("http://127.0.0.1:9", TOKEN, sleep=lambda _s: None) as client,
        pytest.raises(Unreachable, match="does not answer") as caught,
    ):
        client.devices()
    assert "latency-service up" in caught.value.cure


def test_address_and_token_by_default(
    monkeypatch: pytest.MonkeyPatch, service: PredictorService, tmp_path: Path
) -> None:
    for name in ("LATENCY_SERVICE_URL", "LATENCY_SERVICE_TOKEN", "LATENCY_SERVICE_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    with Client() as client:
        assert client.url == DEFAULT_URL
    (tmp_path / "latency-service").mkdir()
    (tmp_path / "latency-service" / "token").write_text(TOKEN + "\n")
    service.on("GET /v1/devices", [])
    monkeypatch.setenv("LATENCY_SERVICE_URL", service.url)
    with Client() as client:
        assert client.devices() == []
    monkeypatch.setenv("LATENCY_SERVICE_TOKEN", "known-to-no-service")
    with Client() as client, pytest.raises(ApiError, match="not known"):
        client.devices()


def test_measurements_are_read_page_by_page(
    service: PredictorService, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latency_service.core.client.connection._PAGE_ROWS", 2)
    summary = {
        "latency_ms": 1.0,
        "lower_ms": 0.9,
        "upper_ms": 1.1,
        "naive_ms": 1.0,
        "verdict": "ok",
        "trainable": True,
        "quiet_share": 1.0,
        "rounds_used": 9,
    }
    entry = {
        "id": "m",
        "space_id": "5" * 64,
        "target_id": "t",
        "campaign_id": None,
        "job_id": "j",
        "attempt_id": "a",
        "widths": [1],
        "model_sha256": None,
        "counted": True,
        "created_at": NOW,
        "summary": summary,
    }
    service.on("GET /v1/measurements", [entry, entry], [entry])
    assert len(client.measurements(space_id="5" * 64)) == 3
