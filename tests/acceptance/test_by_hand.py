"""Each step of the way done by hand: the commands of the README on a real service with a real
agent.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from latency_service.cli.main import main
from latency_service.spaces.slicing import materialise
from latency_service.spaces.weightless import draw_weights
from tests.support.processes import API_TOKEN, Served, Stage, migrate, serve
from tests.support.tiny import CHANNELS, tiny_space

#: Runs one command with --json, and gives what it printed.
ByHand = Callable[..., Any]


@pytest.fixture
def service(stage: Stage, tmp_path: Path) -> Served:
    migrate(tmp_path, "")
    return serve(stage, "")


@pytest.fixture
def by_hand(
    service: Served, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> ByHand:
    """In this process: starting Python takes longer than the commands."""
    monkeypatch.setenv("LATENCY_SERVICE_URL", service.url)
    monkeypatch.setenv("LATENCY_SERVICE_TOKEN", API_TOKEN)

    def call(*words: str, code: int = 0) -> Any:
        with pytest.raises(SystemExit) as ended:
            main([*words, "--json"])
        out, err = capsys.readouterr()
        assert int(ended.value.code or 0) == code, err + service.stage.logs()
        if "--watch" in words:
            return [json.loads(line) for line in out.splitlines()]
        return json.loads(err if code else out)

    return call


@pytest.mark.slow
def test_from_a_space_to_a_verified_file(service: Served, by_hand: ByHand, tmp_path: Path) -> None:
    service.agent()
    space = tiny_space()
    (tmp_path / "space.onnx").write_bytes(space.data)
    (tmp_path / "widths.json").write_text(json.dumps([[4, 4], [8, 12], [16, 16]]))

    made = by_hand("spaces", "create", str(tmp_path / "space.onnx"))
    assert made["id"] == space.id
    assert [entry["id"] for entry in by_hand("spaces", "list")] == [space.id]
    assert by_hand("spaces", "show", space.id[:8])["groups"][0]["width"] == CHANNELS
    assert by_hand("devices", "list")[0]["online"]

    target = ("--space", space.id[:8], "--device", "board")
    views = by_hand(
        "campaigns",
        "create",
        *target,
        "--widths",
        str(tmp_path / "widths.json"),
        "--watch",
    )
    assert (views[-1]["state"], views[-1]["architectures_measured"]) == ("done", 3)
    measured = by_hand("measurements", "list", "--campaign", views[-1]["id"])
    assert sorted(row["widths"] for row in measured) == [[4, 4], [8, 12], [16, 16]]
    rounds = by_hand("measurements", "show", measured[0]["id"])["rounds"]
    assert len(rounds) >= measured[0]["summary"]["rounds_used"] > 0
    assert by_hand("devices", "show", "board")["targets"][0]["runtime"]["intra_threads"] == 1

    network = draw_weights(materialise(space, [8, 12])).SerializeToString()
    (tmp_path / "pruned.onnx").write_bytes(network)
    job = by_hand(
        "verifications",
        "create",
        str(tmp_path / "pruned.onnx"),
        *target,
        "--widths",
        "8,12",
        "--wait",
    )
    (verified,) = job["result"]["measurement_ids"]
    assert by_hand("measurements", "show", verified)["widths"] == [8, 12]

    assert by_hand("predictors", "list") == []
    missing = by_hand(
        "predictors",
        "list",
        *target,
        "--runtime",
        "CPUExecutionProvider/t1/b1/fp32",
        code=3,
    )
    assert "latency-service campaigns create --space" in missing["error"]["cure"]
    refused = by_hand("campaigns", "show", "no-such-campaign", code=3)
    assert refused["error"]["code"] == "not_found"
