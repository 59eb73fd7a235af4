"""Sweeps on a real local Ray: resources, a lost worker, progress."""

from __future__ import annotations

import json
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pruning_client import Campaign, Front, ProgressEvent, RayCluster, Training, WGates, sweep
from pruning_client.execution.journal import FOLDER
from pruning_client.pipeline.ray import PHASE
from tests.support.boards import ServedBoard
from tests.support.tiny_networks import digits, tiny_net

MODEL = "tests.support.tiny_networks:tiny_net"
TASK = "ray::run_task"

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
    """Kills the worker of one task as soon as its job has a checkpoint of its training."""

    def __init__(self, checkpoint: Path) -> None:
        self.killed: list[int] = []
        self._checkpoint = checkpoint
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
            if self._checkpoint.exists():
                worker = next(_workers())
                worker.kill()
                self.killed.append(worker.pid)
                return


def _workers() -> Iterator[psutil.Process]:
    for process in psutil.process_iter(["cmdline"]):
        if " ".join(process.info["cmdline"] or []).startswith(TASK):
            yield process


def swept(served: ServedBoard, out: Path, **more: Any) -> Front:
    arguments: dict[str, Any] = {
        "budgets": ["60%"],
        "method": WGates(epochs=8),
        "client": served.client,
        "training": Training(epochs=2, lr=0.03, batch_size=64, recalibration_batches=5),
        "campaign": Campaign(architectures=12, repeats=2, timeout_seconds=60),
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
    with Killer(out / "60pct" / FOLDER / "prune.safetensors") as killer:
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
