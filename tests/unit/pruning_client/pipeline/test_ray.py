from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pruning_client.errors import Missing, TaskLost
from pruning_client.execution.journal import FOLDER
from pruning_client.execution.progress import ProgressEvent
from pruning_client.pipeline.ray import (
    PHASE,
    Board,
    RayCluster,
    _forget_checkpoints,
    _keep,
    _Watch,
)
from pruning_client.pipeline.ray_tasks import TaskOutcome


class RayError(Exception):
    """Base of the errors of the fake of Ray."""


class RayTaskError(RayError):
    """The function has raised an error."""


class FakeRay:
    """Calls every function at once; what it raises is raised where its result is fetched."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def __init__(self) -> None:
        self.options: list[dict[str, Any]] = []

    def remote(self, **options: Any) -> Callable[[Callable[..., Any]], Any]:
        self.options.append(options)
        return lambda function: SimpleNamespace(
            remote=lambda *arguments: _Call(function, arguments)
        )

    def wait(self, calls: list[_Call], *, timeout: float) -> tuple[list[_Call], list[_Call]]:
        assert timeout > 0
        return calls[:1], calls[1:]

    def get(self, call: _Call) -> Any:
        return call.function(*call.arguments)


class _Call:
    def __init__(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        self.function = function
        self.arguments = arguments


def cluster(ray: FakeRay, **options: Any) -> RayCluster:
    made = RayCluster("auto", **options)
    made._ray = ray
    return made


@pytest.mark.parametrize(
    ("options", "torch_device", "cpus", "gpus"),
    [
        ({}, "cpu", 1.0, 0.0),
        ({}, "cuda", 1.0, 1.0),
        ({"cpus": 4.0}, "cpu", 4.0, 0.0),
        ({"gpus": 0.5}, "cuda", 1.0, 0.5),
        ({"gpus": 0.0}, "cuda", 1.0, 0.0),
    ],
)
def test_a_task_asks_for_processors_and_gpus(
    options: dict[str, float], torch_device: str, cpus: float, gpus: float
) -> None:
    ray = FakeRay()
    calls = {"60%": (1,)}
    assert dict(cluster(ray, **options).results(abs, calls, torch_device=torch_device)) == {
        "60%": 1
    }
    assert ray.options == [{"num_cpus": cpus, "num_gpus": gpus, "max_retries": 3}]


def test_a_lost_task_is_a_result_and_the_others_go_on() -> None:
    def work(number: int) -> int:
        if number == 1:
            raise RayError("The worker died.\nAnd a long story.")
        return number

    results = dict(cluster(FakeRay()).results(work, {"1ms": (1,), "2ms": (2,)}, torch_device="cpu"))
    assert results["2ms"] == 2
    assert isinstance(results["1ms"], TaskLost)
    assert results["1ms"].message == "The cluster lost the task 4 times: The worker died."


def test_a_fault_of_the_function_is_raised() -> None:
    def work() -> None:
        raise RayTaskError("ZeroDivisionError")

    with pytest.raises(RayTaskError):
        list(cluster(FakeRay()).results(work, {"1ms": ()}, torch_device="cpu"))


def test_files_of_finished_jobs_come_to_the_folder_of_their_budget(tmp_path: Path) -> None:
    assert _keep(TaskOutcome(files={"report.json": b"{}"}), tmp_path / "4ms") is None
    assert _keep(TaskOutcome(failure="out of reach"), tmp_path / "1ms") == "out of reach"
    assert _keep(TaskLost("The machine is gone.", "Resume."), tmp_path / "2ms") == (
        "The machine is gone."
    )
    assert [path.read_text() for path in tmp_path.rglob("*") if path.is_file()] == ["{}"]


def test_checkpoints_of_a_former_sweep_are_forgotten(tmp_path: Path) -> None:
    for budget in ("60pct", "50pct"):
        (tmp_path / budget / FOLDER).mkdir(parents=True)
        (tmp_path / budget / "report.json").write_text("{}")
    _forget_checkpoints(tmp_path, ["60%"])
    assert not (tmp_path / "60pct" / FOLDER).exists()
    assert (tmp_path / "60pct" / "report.json").exists()
    assert (tmp_path / "50pct" / FOLDER).exists()


def test_progress_is_that_of_all_jobs_together() -> None:
    board = Board()
    seen: list[ProgressEvent] = []
    watch = _Watch(board.latest, 2, seen.append)
    board.note("60%", ProgressEvent(phase="fine-tune", done=3, total=9))
    board.note("50%", ProgressEvent(phase="rehearse", done=0, total=0))
    watch()
    watch.ended("60%")
    watch()
    assert {event.phase for event in seen} == {PHASE}
    assert [(event.done, event.total) for event in seen] == [(0, 2), (1, 2), (1, 2)]
    assert seen[0].figures == {"60%": "fine-tune 3/9", "50%": "rehearse"}
    assert seen[2].figures == {"50%": "rehearse"}


def test_without_ray_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(Missing, match="Ray is not installed") as caught:
        RayCluster("local")
    assert "latency-service[cluster]" in caught.value.cure
