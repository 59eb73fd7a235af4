"""Each noun's commands: what they ask the service, and what they print."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import views
from tests.support.outcomes import Run
from tests.support.scripted_service import ScriptedService

LISTS = {
    "devices": ("/v1/devices?limit=1000&offset=0", views.device, "board"),
    "spaces": ("/v1/spaces?limit=1000&offset=0", views.space, "resnet"),
    "campaigns": ("/v1/campaigns?limit=1000&offset=0", views.campaign, "32\t120"),
    "predictors": (
        "/v1/predictors?limit=1000&offset=0",
        views.predictor,
        "CPUExecutionProvider/t1/b1/fp32",
    ),
    "measurements": (
        "/v1/measurements?limit=100&offset=0",
        views.measurement,
        "1.250 [1.240, 1.260]",
    ),
    "lattices": ("/v1/lattices?limit=1000&offset=0", views.lattice, "conv3x3"),
    "runs": ("/v1/runs?limit=100&offset=0", views.run, "w-gates"),
}
SHOWS = {
    "devices": (
        "/v1/devices/board",
        views.device,
        "board",
        ["agent-1", "ffffffffffff", "0.1, 0.4, 0.9"],
    ),
    "spaces": ("/v1/spaces/abab", views.space, "abab", ["stem", "batch x 3 x 32 x 32", "conv1"]),
    "campaigns": (
        "/v1/campaigns/campaign-1",
        views.campaign,
        "campaign-1",
        ["32 of 120", "2 of 8 done"],
    ),
    "predictors": (
        "/v1/predictors/predictor-1",
        views.predictor,
        "predictor-1",
        ["lpnet (served)", "flops-line", "2.7", "4–16 by 4", "covers 91%"],
    ),
    "measurements": (
        "/v1/measurements/measurement-1",
        views.measurement,
        "measurement-1",
        ["quiet_share", "0.41"],
    ),
    "verifications": ("/v1/jobs/job-1", views.job, "job-1", ["verify", "attempt-1", "done"]),
    "runs": ("/v1/runs/run-1", views.run, "run-1", ["w-gates", "0.6", "met"]),
    "lattices": (
        "/v1/lattices/lattice-1",
        views.lattice,
        "lattice-1",
        ["conv3x3", "8, 12, then multiples of 4", "5 widths"],
    ),
}


@pytest.mark.parametrize("noun", LISTS)
def test_list_prints_a_table_and_its_json_is_the_services_own(
    noun: str, call: Run, service: ScriptedService
) -> None:
    path, view, expected = LISTS[noun]
    service.on(f"GET {path}", [view()])
    table = call(noun, "list")
    raw = call(noun, "list", "--json")
    assert table.code == 0
    assert expected in table.out
    assert raw.json == [view()]
    assert {seen.authorization for seen in service.seen} == {"Bearer secret-token-0123456789"}


@pytest.mark.parametrize("noun", LISTS)
def test_an_empty_list_is_no_error_and_says_what_makes_one(
    noun: str, call: Run, service: ScriptedService
) -> None:
    service.on(f"GET {LISTS[noun][0]}", [])
    outcome = call(noun, "list")
    assert (outcome.code, outcome.out) == (0, "")
    assert "yet" in outcome.err
    assert call(noun, "list", "--json").json == []


@pytest.mark.parametrize("noun", SHOWS)
def test_show_prints_what_matters_and_its_json_is_the_services_own(
    noun: str, call: Run, service: ScriptedService
) -> None:
    path, view, argument, expected = SHOWS[noun]
    service.on(f"GET {path}", view())
    service.on("GET /v1/devices/board/peers", [])
    service.on("GET /v1/measurements/measurement-1", views.measurement())
    shown = call(noun, "show", argument)
    raw = call(noun, "show", argument, "--json")
    assert shown.code == 0
    assert [words for words in expected if words not in shown.out] == []
    assert raw.json == view()


def test_filters_become_parameters(call: Run, service: ScriptedService) -> None:
    service.on("GET /v1/campaigns?device=board&state=done&limit=1000&offset=0", [])
    service.on("GET /v1/lattices?device=board&limit=1000&offset=0", [])
    service.on(
        "GET /v1/predictors?space_id=ab&device=board"
        "&runtime=CPUExecutionProvider%2Ft1%2Fb1%2Ffp32&limit=1000&offset=0",
        [],
    )
    service.on("GET /v1/measurements?device=board&campaign_id=c&limit=5&offset=10", [])
    assert call("campaigns", "list", "--device", "board", "--state", "done").code == 0
    assert call("lattices", "list", "--device", "board").code == 0
    runtime = ("--runtime", "CPUExecutionProvider/t1/b1/fp32")
    assert call("predictors", "list", "--space", "ab", "--device", "board", *runtime).code == 0
    paging = ("--limit", "5", "--offset", "10")
    assert call("measurements", "list", "--device", "board", "--campaign", "c", *paging).code == 0


def test_campaign_of_a_sample(call: Run, service: ScriptedService) -> None:
    service.on("POST /v1/campaigns", views.campaign(), status=201)
    options = (
        "--space",
        "abab",
        "--device",
        "board",
        "--architectures",
        "60",
        "--target-threads",
        "2",
        "--seed",
        "7",
    )
    outcome = call("campaigns", "create", *options)
    assert "latency-service campaigns watch campaign-1" in outcome.err
    body: dict[str, Any] = service.seen[0].body
    assert (body["purpose"], body["count"], body["seed"]) == ("predictor", 60, 7)
    assert body["runtime"]["intra_threads"] == 2


def test_campaign_of_given_widths(call: Run, service: ScriptedService, tmp_path: Path) -> None:
    service.on("POST /v1/campaigns", views.campaign(purpose="measure"), status=201)
    file = tmp_path / "widths.json"
    file.write_text("[[16, 32], [8, 8]]")
    outcome = call(
        "campaigns",
        "create",
        "--space",
        "abab",
        "--device",
        "board",
        "--widths",
        str(file),
        "--json",
    )
    assert outcome.json["id"] == "campaign-1"
    body = service.seen[0].body
    assert (body["purpose"], body["widths"]) == ("measure", [[16, 32], [8, 8]])
    assert "count" not in body
    # what does not go with widths is the service's to refuse, not left out without a word
    words = ("--space", "a", "--device", "b", "--widths", str(file), "--error-goal", "3%", "--json")
    call("campaigns", "create", *words)
    assert service.seen[1].body["goal_percent"] == 3


def test_cancel(call: Run, service: ScriptedService) -> None:
    service.on("POST /v1/campaigns/campaign-1/cancel", views.campaign(state="cancelled"))
    assert call("campaigns", "cancel", "campaign-1", "--json").json["state"] == "cancelled"


def test_a_space_file_is_uploaded_as_it_is(
    call: Run, service: ScriptedService, tmp_path: Path
) -> None:
    service.on("POST /v1/spaces", views.space(), status=201)
    file = tmp_path / "space.onnx"
    file.write_bytes(b"\x08\x0a\xff")
    outcome = call("spaces", "create", str(file))
    assert service.seen[0].body == b"\x08\x0a\xff"
    assert "campaigns create --space abababababab" in outcome.err


def test_prediction_of_many_with_gradient(call: Run, service: ScriptedService) -> None:
    answer = {
        "predictor_id": "p",
        "latency_ms": [1.5, 0.75],
        "lower_ms": [1.4, 0.7],
        "upper_ms": [1.6, 0.8],
        "gradient": [[0.01, 0.02], [0.03, 0.04]],
        "source": ["predicted", "predicted"],
        "stale": True,
        "cure": "Repair it.",
        "measurement_id": [None, None],
    }
    service.on("POST /v1/predictors/p/predict", answer)
    outcome = call("predictors", "predict", "p", "--widths", "16,32;8,16.5", "--gradient")
    assert service.seen[0].body == {"widths": [[16, 32], [8, 16.5]], "gradient": True}
    assert "0.75" in outcome.out
    assert "Repair it." in outcome.err
    assert "0.03, 0.04" in outcome.out
    assert call("predictors", "predict", "p", "--widths", "16,32;8,16", "--json").json == answer


def test_artifact_is_saved_whole(call: Run, service: ScriptedService, tmp_path: Path) -> None:
    digest = hashlib.sha256(b"onnx bytes").hexdigest()
    service.on("GET /v1/predictors/p", views.predictor() | {"artifact_sha256": digest})
    service.on("GET /v1/predictors/predictor-1/artifact", b"onnx bytes")
    file = tmp_path / "predictor.onnx"
    assert call("predictors", "download", "p", str(file)).code == 0
    assert file.read_bytes() == b"onnx bytes"
    assert [path.name for path in tmp_path.glob("predictor*")] == ["predictor.onnx"]


def test_enrolment_is_shown_with_the_command_for_the_device(
    call: Run, service: ScriptedService, tmp_path: Path
) -> None:
    service.on(
        "POST /v1/enrolments",
        {
            "id": "token-1",
            "token": "enrol-me",
            "device": "board",
            "expires_at": "2025-06-02T00:00:00Z",
        },
        status=201,
    )
    outcome = call("enrolments", "create")
    assert f"latency-service agent --server {service.url} --token enrol-me" in outcome.err
    outcome = call("enrolments", "create", "--device", "board")
    assert outcome.err.rstrip().endswith("--token enrol-me --name board")
    assert json.loads(service.seen[-1].content) == {"device": "board"}
    file = tmp_path / "enrolment"
    outcome = call("enrolments", "create", "--output", str(file))
    assert file.read_text() == "enrol-me\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert "enrol-me" not in outcome.out + outcome.err


def test_watch_prints_each_change_and_ends_with_the_campaign(
    call: Run, service: ScriptedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latency_service.cli.watching.POLL_SECONDS", 0.01)
    running = views.campaign()
    ended = views.campaign(state="done", phase="done", predictor_id="predictor-9")
    service.on("GET /v1/campaigns/campaign-1", running, running, ended)
    lines = call("campaigns", "watch", "campaign-1", "--json").out.splitlines()
    assert [json.loads(line)["state"] for line in lines] == ["running", "done"]
    service.on("GET /v1/campaigns/campaign-1", running, ended)
    outcome = call("campaigns", "watch", "campaign-1")
    assert outcome.code == 0
    assert "measuring  32/120 architectures  jobs 2/8" in outcome.err
    assert "predictors show predictor-9" in outcome.out


def test_watching_a_campaign_that_fails_says_why_and_exits_with_1(
    call: Run, service: ScriptedService
) -> None:
    failed = views.campaign(
        state="failed", jobs_failed=1, failure="The graph needs opset 99. Update ONNX Runtime."
    )
    service.on("POST /v1/campaigns", failed, status=201)
    service.on("GET /v1/campaigns/campaign-1", failed)
    outcome = call("campaigns", "create", "--space", "ab", "--device", "board", "--watch")
    assert outcome.code == 1
    assert "Update ONNX Runtime." in outcome.err


def test_a_delivered_file_is_uploaded_measured_and_shown(
    call: Run, service: ScriptedService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latency_service.core.client.connection.POLL_SECONDS", 0.01)
    file = tmp_path / "pruned.onnx"
    file.write_bytes(b"network")
    sha256 = hashlib.sha256(b"network").hexdigest()
    service.on(f"PUT /v1/models/{sha256}", {"sha256": sha256}, status=201)
    service.on("POST /v1/verifications", views.job("queued"), status=201)
    service.on("GET /v1/jobs/job-1", views.job("leased"), views.job("done"))
    service.on("GET /v1/measurements/measurement-1", views.measurement())
    options = ("--space", "abab", "--device", "board", "--widths", "16,32")
    outcome = call("verifications", "create", str(file), *options, "--wait")
    assert outcome.code == 0
    assert "1.250 [1.240, 1.260]" in outcome.out
    upload, request = service.seen[:2]
    assert upload.body == b"network"
    assert (request.body["model_sha256"], request.body["widths"]) == (sha256, [16, 32])

    service.on("GET /v1/jobs/job-1", views.job("failed"))
    outcome = call("verifications", "create", str(file), *options, "--wait")
    assert outcome.code == 1
    assert "Node 3 is wrong." in outcome.out
    assert call("verifications", "create", str(file), *options, "--json").json["state"] == "queued"


def test_a_campaign_by_goal_of_a_space_file_on_the_only_device(
    call: Run, service: ScriptedService, tmp_path: Path
) -> None:
    file = tmp_path / "resnet.space"
    file.write_bytes(b"space")
    service.on("POST /v1/spaces", views.space(), status=201)
    service.on("GET /v1/devices?limit=1000&offset=0", [views.device()])
    service.on("POST /v1/campaigns", views.campaign(), status=201)
    options = ("--error-goal", "3%", "--time-limit", "10m", "--near", "16,32", "--json")
    assert call("campaigns", "create", "--space", str(file), *options).code == 0
    body = service.seen[-1].body
    assert service.seen[0].body == b"space"
    assert (body["space_id"], body["device"]) == (views.SPACE, "board")
    assert (body["goal_percent"], body["at_most_seconds"], body["around"]) == (3.0, 600.0, [16, 32])
    assert not {"count", "repeats", "repair"} & set(body)


def test_repair_asks_for_just_that(call: Run, service: ScriptedService) -> None:
    service.on("POST /v1/campaigns", views.campaign(), status=201)
    call(
        "campaigns",
        "create",
        "--space",
        "ab",
        "--device",
        "board",
        "--repair",
        "--target-threads",
        "2",
    )
    assert service.seen[0].body["repair"] is True


def test_the_only_device_must_be_the_only_one(call: Run, service: ScriptedService) -> None:
    service.on("GET /v1/devices?limit=1000&offset=0", [views.device(), views.device()])
    outcome = call("campaigns", "create", "--space", "ab")
    assert outcome.code == 2
    assert "board, board" in outcome.err


@pytest.mark.parametrize(
    "options",
    [
        ("--error-goal", "low"),
        ("--error-goal", "-3%"),
        ("--time-limit", "soon"),
        ("--time-limit", "m"),
    ],
)
def test_goals_that_cannot_be_understood(
    call: Run, service: ScriptedService, options: tuple[str, str]
) -> None:
    outcome = call("campaigns", "create", "--space", "ab", "--device", "board", *options)
    assert outcome.code == 6
    assert options[1] in outcome.err


def test_watching_tells_how_sure_the_predictor_is(
    call: Run, service: ScriptedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latency_service.cli.watching.POLL_SECONDS", 0.01)
    one = {
        "measurements": 48,
        "error_percent": 4.1,
        "error_at_most_percent": 5.07,
        "floor_percent": 0.8,
    }
    running = views.campaign(goal_percent=3, rounds=[one])
    ended = views.campaign(
        state="done", phase="done", goal_percent=3, rounds=[one], goal_met=False, predictor_id="p"
    )
    service.on("GET /v1/campaigns/campaign-1", running, ended)
    outcome = call("campaigns", "watch", "campaign-1")
    assert (
        "error 4.1 %, upper confidence bound 5.1 %, repeats differ by 0.8 %  goal 3 %"
        in outcome.err
    )
    assert "The goal of 3 % is not shown to be reached." in outcome.out


def test_forgetting_a_device_needs_yes(call: Run, service: ScriptedService) -> None:
    outcome = call("devices", "forget", "board")
    assert (outcome.code, service.seen) == (2, [])
    assert "--yes" in outcome.err
    gone = {"device": "board", "measurements": 9, "predictors": 2, "lattices": 1}
    service.on("DELETE /v1/devices/board/measurements?confirm=board", gone)
    outcome = call("devices", "forget", "board", "--yes")
    assert outcome.code == 0
    assert "predictors deleted" in outcome.out
