"""The jobs of a sweep, and the training of a contest, as tasks of a Ray cluster.

A task gets the settings as a value, the model as the reference of a function and safetensors, and
the address of the service with its token; it gives back the files of its job. The machines of the
cluster need the modules of the model and of a deploy hook, and data that are given as a path at
that same path.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from safetensors.torch import load, save
from torch import nn

from latency_service.core.client import Client
from latency_service.core.credentials import Credentials
from latency_service.core.files import write_whole
from latency_service.core.transport import ApiError
from pruning_client.data.models import load_model
from pruning_client.errors import Missing, PruningError
from pruning_client.graph.traced import Deploy
from pruning_client.pipeline.prune import prune_request
from pruning_client.pipeline.settings import JobRequest, JobSettings
from pruning_client.pipeline.sweep import folder_of

R = TypeVar("R")


class RayCluster:
    """A Ray cluster that runs the jobs of a sweep, or trains the networks of a contest.

    Args:
        address: as ``ray.init`` takes it; "local" starts a cluster on this machine.
        model: reference of a function (or class) without required arguments that makes the network
            on the cluster's machines, ``package.module:function``; by default the model's own
            class. The weights are sent along.

    Raises:
        Missing: Ray is not installed.
    """

    def __init__(self, address: str, *, model: str | None = None) -> None:
        try:
            import ray
        except ImportError as error:
            raise Missing(
                "Ray is not installed.", "Install it: pip install 'latency-service[cluster]'."
            ) from error
        self._ray: Any = ray
        self._address = address
        self._model = model

    def run(
        self, request: JobRequest, budgets: Sequence[str], client: Client, out: Path
    ) -> dict[str, str]:
        """Run the job of every budget; the files come to `out`. Returns the reasons of failures."""
        with self.opened():
            tasks = self._tasks(request, budgets, client)
            calls = {one.budget: (one, request.data, request.val_data) for one in tasks}
            return _collect(self.gather(run_task, calls), out)

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """This process belongs to the cluster while the context is open."""
        self._ray.init(
            address=self._address,
            log_to_driver=False,
            configure_logging=False,
            include_dashboard=False,
        )
        try:
            yield
        finally:
            self._ray.shutdown()

    def gather(
        self, function: Callable[..., R], calls: Mapping[str, tuple[Any, ...]]
    ) -> dict[str, R]:
        """Call a function on the cluster's machines, one processor a call.

        Args:
            calls: Arguments of each call, by a name.

        Returns:
            The result of each call by its name, when all have ended.
        """
        task = self._ray.remote(num_cpus=1)(function)
        waiting = {name: task.remote(*arguments) for name, arguments in calls.items()}
        return {name: self._ray.get(reference) for name, reference in waiting.items()}

    def sent(self, model: nn.Module) -> SentNetwork:
        """A network as it is sent to the cluster's machines."""
        state = {name: value.cpu().contiguous() for name, value in model.state_dict().items()}
        return SentNetwork(
            reference=self._model or _reference(model),
            weights=save(state),
            torch_device=next(model.parameters()).device.type,
        )

    def _tasks(
        self, request: JobRequest, budgets: Sequence[str], client: Client
    ) -> list[PruningTask]:
        model = self.sent(request.model)
        return [
            PruningTask(
                budget=budget,
                settings=request.settings,
                deploy=request.deploy,
                command=request.command(budget),
                model=model,
                service=client.credentials,
            )
            for budget in budgets
        ]


@dataclass(frozen=True, kw_only=True)
class SentNetwork:
    """A network as a function that makes it, and its weights."""

    #: ``package.module:function`` that makes the network
    reference: str
    #: safetensors of the network's state_dict
    weights: bytes = field(repr=False)
    #: kind of torch device on which training runs
    torch_device: str

    def make(self) -> nn.Module:
        """The network with its weights."""
        model = load_model(self.reference)
        model.load_state_dict(load(self.weights))
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


@dataclass(frozen=True, kw_only=True)
class TaskOutcome:
    """Files of a finished job by name, or the reason why it failed."""

    files: Mapping[str, bytes] = field(default_factory=dict)
    failure: str | None = None


def run_task(task: PruningTask, data: Any, val_data: Any = None) -> TaskOutcome:
    """Run a job on a machine of the cluster."""
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
            tempfile.TemporaryDirectory() as scratch,
            Client(task.service.url, task.service.token) as client,
        ):
            prune_request(request, task.budget, client=client, out_dir=scratch)
            return TaskOutcome(files=_files(Path(scratch)))
    except (PruningError, ApiError) as error:
        return TaskOutcome(failure=error.message)


def _reference(model: nn.Module) -> str:
    kind = type(model)
    return f"{kind.__module__}:{kind.__qualname__}"


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def _collect(outcomes: Mapping[str, TaskOutcome], out: Path) -> dict[str, str]:
    """Write the files of finished jobs; returns the reasons of failed ones."""
    failures = {}
    for budget, outcome in outcomes.items():
        if outcome.failure is not None:
            failures[budget] = outcome.failure
            continue
        folder = out / folder_of(budget)
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in outcome.files.items():
            write_whole(folder / name, content, mode=0o644)
    return failures
