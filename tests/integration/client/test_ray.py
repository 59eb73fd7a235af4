"""Sweeps and a contest on a real local Ray: resources, lost workers, progress."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from pruning_client import (
    Campaign,
    Contest,
    EqualLatency,
    Front,
    ProgressEvent,
    RayCluster,
    Training,
    Uniform,
    WGates,
    compare_methods,
    sweep,
)
from pruning_client.execution.journal import FOLDER
from pruning_client.pipeline.ray import PHASE
from tests.support.boards import ServedBoard
from tests.support.tiny_networks import digits, tiny_net

MODEL = "tests.support.tiny_networks:tiny_net"
TRAINING = Training(epochs=2, lr=0.03, batch_size=64, recalibration_batches=5)
CAMPAIGN = Campaign(architectures=12, repeats=2, timeout_seconds=60)

# Ray takes minutes to start where others use the processors
pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


@pytest.fixture(autouse=True)
def local_ray(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray counts two GPUs on this machine, which nobody uses; its tasks give way to this test's
    measurements only.
    """
    monkeypatch.setenv("RAY_OVERRIDE_RESOURCES", json.dumps({"CPU": 4, "GPU": 2}))
    monkeypatch.setenv("RAY_TMPDIR", tempfile.gettempdir())  # the path of a socket must be short
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    # it would wait for whatever else this machine is busy with
    monkeypatch.setenv("RAY_worker_niceness", "0")


def assigned() -> dict[str, float]:
    """Resources of the task that asks."""
    import ray

    found: dict[str, float] = ray.get_runtime_context().get_assigned_resources()
    return {name: found[name] for name in ("CPU", "GPU") if name in found}


def test_a_task_gets_the_processors_and_gpus_that_it_asks_for() -> None:
    cluster = RayCluster("local", cpus=2.0, gpus=0.5)
    calls: dict[str, tuple[Any, ...]] = {str(k): () for k in range(3)}
    with cluster.opened():
        results = dict(cluster.results(assigned, calls, torch_device="cpu"))
        dense = dict(RayCluster("local").results(assigned, {"one": ()}, torch_device="cuda"))
    assert list(results.values()) == [{"CPU": 2.0, "GPU": 0.5}] * 3
    assert dense == {"one": {"CPU": 1.0, "GPU": 1.0}}


class Killer:
    """Kills the workers that run a task, once, as soon as one of them has a checkpoint of its
    training.

    Args:
        task: name of the function that is the task.
        has_checkpoint: asked again and again.
    """

    def __init__(self, task: str, has_checkpoint: Callable[[], bool]) -> None:
        self.killed: list[int] = []
        self._title = f"ray::{task}"
        self._has_checkpoint = has_checkpoint
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Killer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            if self._has_checkpoint():
                for worker in self._workers():
                    worker.kill()
                    self.killed.append(worker.pid)
                return

    def _workers(self) -> Iterator[psutil.Process]:
        for process in psutil.Process().children(recursive=True):
            with suppress(psutil.Error):
                if " ".join(process.cmdline()).startswith(self._title):
                    yield process


def swept(served: ServedBoard, out: Path, **more: Any) -> Front:
    arguments: dict[str, Any] = {
        "budgets": ["60%"],
        "method": WGates(epochs=8),
        "client": served.client,
        "training": TRAINING,
        "campaign": CAMPAIGN,
        "cluster": RayCluster("local", model=MODEL),
        "out_dir": out,
        **more,
    }
    images, labels = digits()
    return sweep(tiny_net(), (images[:800], labels[:800]), **arguments)


def test_a_job_whose_worker_is_killed_goes_on_from_its_checkpoint(
    served: ServedBoard, tmp_path: Path
) -> None:
    whole = swept(served, tmp_path / "whole")
    seen: list[ProgressEvent] = []
    out = tmp_path / "killed"
    checkpoint = out / "60pct" / FOLDER / "prune.safetensors"
    with Killer("run_task", checkpoint.exists) as killer:
        front = swept(served, out, progress=seen.append)
    assert len(killer.killed) == 1
    assert front.failures == whole.failures == {}
    files = [
        (tmp_path / name / "60pct" / "pruned.onnx").read_bytes() for name in ("whole", "killed")
    ]
    assert files[0] == files[1]
    assert not (out / "60pct" / FOLDER).exists()
    assert {event.phase for event in seen} == {PHASE}
    assert [seen[0].done, seen[-1].done, seen[-1].total] == [0, 1, 1]
    assert any("prune" in figure for event in seen for figure in event.figures.values())
    again = swept(served, out, resume=True, cluster=RayCluster("nowhere:1"))
    assert [point.budget for point in again.points] == ["60%"], "a finished job is not repeated"


def contested(served: ServedBoard, out: Path, **more: Any) -> Contest:
    images, labels = digits()
    return compare_methods(
        tiny_net(),
        (images[:800], labels[:800]),
        budgets=["60%"],
        methods=[Uniform(), WGates(epochs=8)],
        client=served.client,
        training=TRAINING,
        campaign=CAMPAIGN,
        equality=EqualLatency(passes=1, readings=1, most_readings=1),
        out_dir=out,
        **more,
    )


def test_a_contest_whose_workers_are_killed_ends_with_the_same_files(
    served: ServedBoard, tmp_path: Path
) -> None:
    """Its tasks keep nothing outside their machine, so they start again from the beginning."""
    here = contested(served, tmp_path / "here")

    def has_checkpoint() -> bool:
        return any(tmp_path.glob("tmp*/selection/training/prune.safetensors"))

    out = tmp_path / "killed"
    with Killer("run_step", has_checkpoint) as killer:
        contest = contested(served, out, cluster=RayCluster("local", model=MODEL))
    assert killer.killed
    assert [entry.failure for entry in contest.entries] == [None, None]
    for entry, same in zip(contest.entries, here.entries, strict=True):
        assert entry.result is not None
        assert same.result is not None
        assert entry.result.widths == same.result.widths
        files = [
            (folder / entry.result.folder / "pruned.onnx").read_bytes()
            for folder in (tmp_path / "here", out)
        ]
        assert files[0] == files[1], entry.method
