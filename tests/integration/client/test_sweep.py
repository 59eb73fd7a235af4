"""Sweeps that are stopped and go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pruning_client import (
    Campaign,
    Front,
    ProgressEvent,
    Training,
    UsageError,
    WGates,
    sweep,
)
from tests.support.boards import ServedBoard
from tests.support.tiny_networks import TinyNet, digits

TRAINING = Training(epochs=2, lr=0.03, batch_size=64, recalibration_batches=5)
CAMPAIGN = Campaign(architectures=12, repeats=2, timeout_seconds=60)


def go(served: ServedBoard, model: TinyNet, out: Path, **more: Any) -> Front:
    images, labels = digits()
    arguments: dict[str, Any] = {
        "budgets": ["70%", "60%"],
        "method": WGates(epochs=2),
        "client": served.client,
        "training": TRAINING,
        "campaign": CAMPAIGN,
        "out_dir": out,
        **more,
    }
    return sweep(model, (images[:800], labels[:800]), **arguments)


class Killed(Exception):
    """The end of a process."""


def test_a_stopped_sweep_goes_on_where_it_was(
    served: ServedBoard, trained: TinyNet, tmp_path: Path
) -> None:
    trainings = 0

    def kill(event: ProgressEvent) -> None:
        nonlocal trainings
        if event.phase == "prune" and event.done == 1:
            trainings += 1
        if trainings == 2 and event.phase == "prune" and event.done > event.total // 2 + 1:
            raise Killed

    with pytest.raises(Killed):
        go(served, trained, tmp_path, progress=kill)
    assert (tmp_path / "70pct" / "report.json").exists()
    steps: list[int] = []

    def watch(event: ProgressEvent) -> None:
        if event.phase == "prune":
            steps.append(event.done)

    jobs = len(served.board.jobs)
    with pytest.raises(UsageError, match="another job"):
        go(served, trained, tmp_path, resume=True, training=Training(epochs=1, batch_size=64))
    assert len(served.board.jobs) == jobs
    front = go(served, trained, tmp_path, resume=True, progress=watch)
    assert steps[0] > 1, "the running budget goes on from its checkpoint"
    assert len(front.points) == 2
    assert not front.failures
    # one more budget
    assert len(go(served, trained, tmp_path, resume=True, budgets=["70%", "50%"]).points) == 2
