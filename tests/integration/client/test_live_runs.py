"""A job as the service sees it while it goes on."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from pruning_client import prune
from pruning_client.execution.progress import ProgressEvent
from pruning_client.methods.w_gates import WGates
from pruning_client.pipeline import live
from pruning_client.service.campaign import Campaign
from pruning_client.training.config import Training
from tests.support.boards import ServedBoard
from tests.support.tiny_networks import digits, tiny_net

OPTIONS: dict[str, Any] = {
    "budget": "60%",
    "method": WGates(epochs=2),
    "training": Training(epochs=1, lr=0.03, batch_size=64),
    "campaign": Campaign(architectures=12, repeats=2, timeout_seconds=60),
}


class Stopped(Exception):
    """The user stops the job."""


def steps_of(served: ServedBoard, run_id: str) -> list[dict[str, Any]]:
    """The history of a run as its page has it."""
    answer = served.client._request("GET", f"/runs/{run_id}.json")
    return list(answer.json()["steps"])


def wait_for_steps(served: ServedBoard, run_id: str) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 30
    while not (steps := steps_of(served, run_id)):
        assert time.monotonic() < deadline, "no step was sent"
        time.sleep(0.02)
    return steps


def test_a_run_is_seen_while_it_goes_on_and_when_it_has_ended(
    served: ServedBoard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "PAUSE_SECONDS", 0.01)
    seen: list[dict[str, Any]] = []

    def look(event: ProgressEvent) -> None:
        if event.phase != "fine-tune" or seen:
            return
        (run,) = served.client.runs()
        assert (run.state, run.report) == ("running", None)
        seen.extend(wait_for_steps(served, run.id))

    report = prune(tiny_net(), digits(), client=served.client, progress=look, **OPTIONS).report
    groups = len(report.widths)
    assert [len(step["widths"]) for step in seen if step["phase"] == "prune"][:1] == [groups]
    assert all(step["latency_ms"] > 0 for step in seen if step["phase"] == "prune")
    (run,) = served.client.runs()
    assert (run.id, run.state) == (report.run_id, "done")
    assert run.summary is not None
    assert run.summary.pruned.latency_ms == report.pruned.latency_ms
    assert len(steps_of(served, run.id)) == len(report.history)


def test_a_stopped_run_has_failed_and_goes_on_as_the_same_when_it_is_resumed(
    served: ServedBoard, tmp_path: Path
) -> None:
    def stop(event: ProgressEvent) -> None:
        if event.phase == "fine-tune":
            raise Stopped("enough for today")

    options = {**OPTIONS, "client": served.client, "out_dir": tmp_path / "out"}
    with pytest.raises(Stopped):
        prune(tiny_net(), digits(), progress=stop, **options)
    (failed,) = served.client.runs()
    assert (failed.state, failed.failure) == ("failed", "Stopped: enough for today")
    before = steps_of(served, failed.id)
    assert before
    report = prune(tiny_net(), digits(), resume=True, **options).report
    (run,) = served.client.runs()
    assert (run.id, run.state, run.failure) == (failed.id, "done", None)
    after = steps_of(served, run.id)
    assert [step["at"] for step in after][: len(before)] == [step["at"] for step in before]
    assert len(after) == len(report.history)
