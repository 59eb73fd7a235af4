"""Each step of the way done by hand: the commands of the README on a real service with a real
agent.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from latency_service.spaces.slicing import materialise
from latency_service.spaces.weightless import draw_weights
from tests.support.processes import API_TOKEN, Served, Stage, clean_environment, migrate, serve
from tests.support.tiny import CHANNELS, tiny_space


def by_hand(service: Served, *words: str, code: int = 0) -> Any:
    """Run one command with --json; what it printed."""
    environment = clean_environment(
        LATENCY_SERVICE_URL=service.url, LATENCY_SERVICE_TOKEN=API_TOKEN
    )
    ended = subprocess.run(
        [sys.executable, "-m", "latency_service", *words, "--json"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert ended.returncode == code, ended.stderr + service.stage.logs()
    return (
        [json.loads(line) for line in ended.stdout.splitlines()]
        if "--watch" in words
        else json.loads(ended.stdout if code == 0 else ended.stderr)
    )


@pytest.mark.slow
def test_from_a_space_to_a_verified_file(stage: Stage, tmp_path: Path) -> None:
    migrate(tmp_path, "")
    service = serve(stage, "")
    service.agent()
    space = tiny_space()
    (tmp_path / "space.onnx").write_bytes(space.data)
    (tmp_path / "widths.json").write_text(json.dumps([[4, 4], [8, 12], [16, 16]]))

    made = by_hand(service, "spaces", "create", str(tmp_path / "space.onnx"))
    assert made["id"] == space.id
    assert [entry["id"] for entry in by_hand(service, "spaces", "list")] == [space.id]
    assert by_hand(service, "spaces", "show", space.id[:8])["groups"][0]["width"] == CHANNELS
    assert by_hand(service, "devices", "list")[0]["online"]

    target = ("--space", space.id[:8], "--device", "board")
    views = by_hand(
        service,
        "campaigns",
        "create",
        *target,
        "--widths",
        str(tmp_path / "widths.json"),
        "--watch",
    )
    assert (views[-1]["state"], views[-1]["architectures_measured"]) == ("done", 3)
    measured = by_hand(service, "measurements", "list", "--campaign", views[-1]["id"])
    assert sorted(row["widths"] for row in measured) == [[4, 4], [8, 12], [16, 16]]
    rounds = by_hand(service, "measurements", "show", measured[0]["id"])["rounds"]
    assert len(rounds) >= measured[0]["summary"]["rounds_used"] > 0
    assert (
        by_hand(service, "devices", "show", "board")["targets"][0]["runtime"]["intra_threads"] == 1
    )

    network = draw_weights(materialise(space, [8, 12])).SerializeToString()
    (tmp_path / "pruned.onnx").write_bytes(network)
    job = by_hand(
        service,
        "verifications",
        "create",
        str(tmp_path / "pruned.onnx"),
        *target,
        "--widths",
        "8,12",
        "--wait",
    )
    (verified,) = job["result"]["measurement_ids"]
    assert by_hand(service, "measurements", "show", verified)["widths"] == [8, 12]

    assert by_hand(service, "predictors", "list") == []
    missing = by_hand(
        service,
        "predictors",
        "list",
        *target,
        "--runtime",
        "CPUExecutionProvider/t1/b1/fp32",
        code=3,
    )
    assert "latency-service campaigns create --space" in missing["error"]["cure"]
    refused = by_hand(service, "campaigns", "show", "no-such-campaign", code=3)
    assert refused["error"]["code"] == "not_found"
