"""Steps of a contest as tasks of a cluster.

The tasks train only: files are measured by this process, through the service, when no task is
running, so that training never disturbs a measurement. The model, the settings and the data travel
as in a sweep.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from latency_service.core.client import Client
from latency_service.core.credentials import Credentials
from latency_service.core.files import write_whole
from pruning_client.errors import TaskLost
from pruning_client.execution.journal import Journal
from pruning_client.execution.progress import silent
from pruning_client.graph.traced import Deploy
from pruning_client.latency.predictor import Predictor
from pruning_client.pipeline.contest.steps import Step, do
from pruning_client.pipeline.prepare import analyse
from pruning_client.pipeline.settings import JobRequest, JobSettings


class SentModel(Protocol):
    """A network on its way to another machine."""

    @property
    def torch_device(self) -> str:
        """Kind of torch device on which it trains."""

    def make(self) -> nn.Module:
        """The network with its weights."""


class Cluster(Protocol):
    """Machines that call functions."""

    def opened(self) -> AbstractContextManager[None]:
        """The cluster is connected while the context is open."""

    def sent(self, model: nn.Module) -> SentModel:
        """A form of the network that can be sent."""

    def results(
        self,
        function: Callable[..., Any],
        calls: Mapping[str, tuple[Any, ...]],
        *,
        torch_device: str,
    ) -> Iterator[tuple[str, Any]]:
        """The result of each call by its name, as soon as it has ended; a `TaskLost` where it was
        lost.
        """


@dataclass(frozen=True, kw_only=True)
class StepTask:
    """One step, as a machine of the cluster gets it."""

    step: Step
    settings: JobSettings
    deploy: Deploy | None
    model: SentModel = field(repr=False)
    #: Address and token of the service.
    service: Credentials = field(repr=False)
    predictor_id: str
    #: Files of the selection that the step reads, by name.
    selection: Mapping[str, bytes] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class ClusterWorkers:
    """Machines of a cluster; steps that are stopped start again from the beginning."""

    cluster: Cluster
    request: JobRequest
    credentials: Credentials
    predictor_id: str

    def run(self, steps: Sequence[Step]) -> None:
        """Do the steps that are not finished.

        Raises:
            TaskLost: The cluster lost one of them; the others are finished.
        """
        open_steps = [step for step in steps if not step.is_finished]
        if not open_steps:
            return
        data = (self.request.data, self.request.val_data)
        model = self.cluster.sent(self.request.model)
        calls = {str(step.folder): (self._task(step, model), *data) for step in open_steps}
        lost: TaskLost | None = None
        results = self.cluster.results(run_step, calls, torch_device=model.torch_device)
        for folder, files in results:
            if isinstance(files, TaskLost):
                lost = files
            else:
                _write(Path(folder), files)
        if lost is not None:
            raise lost

    def _task(self, step: Step, model: SentModel) -> StepTask:
        return StepTask(
            step=step,
            settings=self.request.settings,
            deploy=self.request.deploy,
            model=model,
            service=self.credentials,
            predictor_id=self.predictor_id,
            selection={} if step.widths is None else _files(step.selection),
        )


def run_step(task: StepTask, data: Any, val_data: Any = None) -> dict[str, bytes]:
    """Do a step on a machine of the cluster; returns its files by name."""
    request = JobRequest(
        model=task.model.make(),
        data=data,
        val_data=val_data,
        settings=task.settings,
        deploy=task.deploy,
    )
    train, held_out = request.batches()
    with (
        tempfile.TemporaryDirectory() as scratch,
        Client(task.service.url, task.service.token) as client,
    ):
        folder = Path(scratch)
        _write(folder / "selection", task.selection)
        job = analyse(
            request,
            train,
            held_out,
            client=client,
            progress=silent,
            folder=folder,
            journal=Journal(),
            budget=None,
        )
        step = replace(task.step, selection=folder / "selection", shared_folder=folder / "shared")
        do(step, job, Predictor.local(client, client.predictor(task.predictor_id)))
        return _files(step.folder)


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def _write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write the files of a step, the one that marks it as finished last."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in sorted(files, key=lambda name: name.endswith(".json")):
        write_whole(folder / name, files[name])
