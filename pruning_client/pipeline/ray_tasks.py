"""What a machine of a Ray cluster does for a sweep: one pruning job, from values that were sent."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load
from torch import nn

from latency_service.core.client import Client
from latency_service.core.credentials import Credentials
from latency_service.core.locks import GivingWay
from latency_service.core.transport import ApiError
from pruning_client.data.models import load_model
from pruning_client.errors import PruningError
from pruning_client.execution.progress import ProgressEvent
from pruning_client.graph.traced import Deploy
from pruning_client.pipeline.prune import prune_request
from pruning_client.pipeline.settings import JobRequest, JobSettings

#: Shortest time between two reports of one phase.
_REPORT_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class SentNetwork:
    """A network as a function that makes it, and its weights."""

    #: ``package.module:function`` that makes the network
    reference: str
    #: safetensors of the network's state_dict
    weights: bytes = field(repr=False)
    #: kind of torch device on which training runs
    torch_device: str
    #: Names of parameters that the user has frozen, and of modules in eval mode.
    frozen: frozenset[str] = frozenset()
    in_eval: frozenset[str] = frozenset()

    def make(self) -> nn.Module:
        """The network with its weights, frozen where the user's is."""
        model = load_model(self.reference)
        model.load_state_dict(load(self.weights))
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in self.frozen)
        for name, module in model.named_modules():
            module.training = name not in self.in_eval
        return model.to(self.torch_device)


@dataclass(frozen=True, kw_only=True)
class PruningTask:
    """One job of a sweep, as a task gets it."""

    budget: str
    settings: JobSettings
    #: the user's deploy hook, which the cluster's machines can import
    deploy: Deploy | None = None
    #: command that the report shows
    command: str
    model: SentNetwork
    #: address and token of the service
    service: Credentials = field(repr=False)
    #: folder of the job that every machine has; None where there is no such folder
    folder: Path | None = None


@dataclass(frozen=True, kw_only=True)
class TaskOutcome:
    """Files of a finished job by name, or the reason why it failed."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    failure: str | None = None


def run_task(task: PruningTask, data: Any, val_data: Any = None, board: Any = None) -> TaskOutcome:
    """Run a job on a machine of the cluster, or go on with one whose machine was lost.

    Args:
        board: handle of the actor that is told how far the job is.
    """
    try:
        request = JobRequest(
            model=task.model.make(),
            data=data,
            val_data=val_data,
            settings=task.settings,
            deploy=task.deploy,
            command_of=lambda _budget: task.command,
        )
        with (
            _opened(task.folder) as folder,
            Client(task.service.url, task.service.token) as client,
        ):
            prune_request(
                request,
                task.budget,
                client=client,
                out_dir=folder,
                resume=True,
                progress=_Reporter(task.budget, board),
            )
            return TaskOutcome(files=_files(folder))
    except (PruningError, ApiError) as error:
        return TaskOutcome(failure=error.message)


class _Reporter:
    """Progress of a job: tells the board, and pauses the job while this machine measures.

    A job reports every step of its training from the thread that trains, so that it stops there as
    soon as an agent of this machine begins to measure.
    """

    def __init__(self, budget: str, board: Any) -> None:
        self._budget = budget
        self._board = board
        self._give_way = GivingWay()
        self._phase = ""
        self._reported_at = 0.0

    def __call__(self, event: ProgressEvent) -> None:
        self._give_way()
        now = time.monotonic()
        is_due = event.phase != self._phase or now - self._reported_at >= _REPORT_SECONDS
        if self._board is None or not is_due:
            return
        self._phase = event.phase
        self._reported_at = now
        self._board.note.remote(self._budget, event)


@contextlib.contextmanager
def _opened(folder: Path | None) -> Iterator[Path]:
    """The folder of a job, or one for the time of the task."""
    if folder is not None:
        yield folder
        return
    with tempfile.TemporaryDirectory() as scratch:
        yield Path(scratch)


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
