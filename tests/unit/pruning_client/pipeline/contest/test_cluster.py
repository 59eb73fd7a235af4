"""Steps are sent to a cluster, and their files come back to the folders of the contest."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from torch import nn

from latency_service.core.credentials import Credentials
from pruning_client.errors import TaskLost
from pruning_client.methods.magnitude import Uniform
from pruning_client.pipeline.contest import kept
from pruning_client.pipeline.contest.cluster import ClusterWorkers, StepTask
from pruning_client.pipeline.contest.entrants import entrants_of
from pruning_client.pipeline.contest.steps import Step
from pruning_client.pipeline.settings import JobRequest
from tests.support.tiny_networks import tiny_net


class Scripted:
    """A cluster whose machines answer every step with the same files."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = files
        self.tasks: list[StepTask] = []
        #: Calls that are lost, by the name of their folder.
        self.lost: dict[str, TaskLost] = {}

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        yield

    def sent(self, model: nn.Module) -> Any:
        return SimpleNamespace(make=lambda: model, torch_device="cpu")

    def results(
        self,
        _function: Callable[..., Any],
        calls: Mapping[str, tuple[Any, ...]],
        *,
        torch_device: str,
    ) -> Iterator[tuple[str, Mapping[str, bytes] | TaskLost]]:
        assert torch_device == "cpu"
        self.tasks += [task for task, *_data in calls.values()]
        for name in calls:
            yield name, self.lost.get(Path(name).name, self.files)


def workers(cluster: Scripted) -> ClusterWorkers:
    return ClusterWorkers(
        cluster=cluster,
        request=JobRequest(model=tiny_net(), data="train.parquet"),
        credentials=Credentials(url="http://127.0.0.1:1", token="a-secret-of-the-service"),
        predictor_id="p1",
    )


def steps(folder: Path, widths: Sequence[tuple[int, ...] | None]) -> list[Step]:
    (entrant,) = entrants_of([Uniform()], 1)
    return [
        Step(
            entrant=entrant,
            seed=0,
            selection=folder / str(k),
            shared_folder=folder / "shared",
            aim_ms=0.5,
            widths=one,
        )
        for k, one in enumerate(widths)
    ]


def test_only_steps_that_are_not_finished_are_sent(tmp_path: Path) -> None:
    cluster = Scripted({kept.STEP: b"{}", "selection.safetensors": b"tensors"})
    done, left = steps(tmp_path, [None, None])
    kept.save_failure(done.folder, "out of reach")
    workers(cluster).run([done, left])
    assert [task.step for task in cluster.tasks] == [left]
    assert left.is_finished
    assert (left.folder / "selection.safetensors").read_bytes() == b"tensors"


def test_a_network_is_made_from_the_selection_that_is_sent_along(tmp_path: Path) -> None:
    cluster = Scripted({kept.STEP: b"{}"})
    (step,) = steps(tmp_path, [(8, 8)])
    step.selection.mkdir()
    (step.selection / kept.STEP).write_bytes(b"chosen")
    workers(cluster).run([step])
    (task,) = cluster.tasks
    assert cast(Any, task.selection) == {kept.STEP: b"chosen"}
    assert step.is_finished
    assert "a-secret-of-the-service" not in repr(task)
    workers(cluster).run([step])
    assert len(cluster.tasks) == 1


def test_of_a_lost_step_the_others_are_kept(tmp_path: Path) -> None:
    cluster = Scripted({kept.STEP: b"{}"})
    lost, done = steps(tmp_path, [None, None])
    cluster.lost[lost.folder.name] = TaskLost("The machine is gone.", "Resume.")
    with pytest.raises(TaskLost, match="The machine is gone"):
        workers(cluster).run([lost, done])
    assert [lost.is_finished, done.is_finished] == [False, True]
