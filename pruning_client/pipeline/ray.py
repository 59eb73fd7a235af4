"""The jobs of a sweep, and the training of a contest, as tasks of a Ray cluster.

A task gets the settings as a value, the model as the reference of a function and safetensors, and
the address of the service with its token; it gives back the files of its job. The machines of the
cluster need the modules of the model and of a deploy hook, and data that are given as a path at
that same path.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from safetensors.torch import save
from torch import nn

from latency_service.core.client import Client
from latency_service.core.files import write_whole
from pruning_client.errors import Missing, TaskLost, first_line
from pruning_client.execution.journal import FOLDER
from pruning_client.execution.progress import Progress, ProgressEvent
from pruning_client.pipeline.ray_tasks import PruningTask, SentNetwork, TaskOutcome, run_task
from pruning_client.pipeline.settings import JobRequest
from pruning_client.pipeline.sweep import folder_of

R = TypeVar("R")

#: Number of times that a task is started again after its process or machine was lost.
RETRIES = 3
#: Address that starts a cluster on this machine.
LOCAL = "local"
PHASE = "prune on the cluster"
#: Time between two looks at the tasks that run.
_LOOK_SECONDS = 1.0


class RayCluster:
    """A Ray cluster that runs the jobs of a sweep, or trains the networks of a contest.

    A task whose process or machine is lost is started again, on another machine if need be. The
    job of a sweep then goes on from its last checkpoint, if `storage` is given.

    Args:
        address: as ``ray.init`` takes it; "local" starts a cluster on this machine.
        model: reference of a function (or class) without required arguments that makes the network
            on the cluster's machines, ``package.module:function``; by default the model's own
            class. The weights are sent along.
        cpus: number of processors that Ray reserves for a task.
        gpus: number of GPUs that Ray reserves for a task; tasks can share one by fractions. By
            default one where the network is on a GPU, none elsewhere.
        storage: folder of checkpoints that all machines of the cluster have at the same path, such
            as a network file system; by default the folder of the sweep on a "local" cluster, and
            none elsewhere.

    Raises:
        Missing: Ray is not installed.
    """

    def __init__(
        self,
        address: str,
        *,
        model: str | None = None,
        cpus: float = 1.0,
        gpus: float | None = None,
        storage: Path | None = None,
    ) -> None:
        try:
            import ray
        except ImportError as error:
            raise Missing(
                "Ray is not installed.", "Install it: pip install 'latency-service[cluster]'."
            ) from error
        self._ray: Any = ray
        self._address = address
        self._model = model
        self._cpus = cpus
        self._gpus = gpus
        self._storage = storage

    def run(
        self,
        request: JobRequest,
        budgets: Sequence[str],
        client: Client,
        out: Path,
        *,
        resume: bool,
        progress: Progress,
    ) -> dict[str, str]:
        """Run the job of every budget; the files come to `out`. Returns the reasons of failures."""
        if not budgets:
            return {}
        storage = out if self._storage is None and self._address == LOCAL else self._storage
        if storage is not None and not resume:
            _forget_checkpoints(storage, budgets)
        failures: dict[str, str] = {}
        with self.opened():
            tasks = self._tasks(request, budgets, client, storage)
            board = self._ray.remote(num_cpus=0, max_restarts=-1)(Board).remote()
            calls = {one.budget: (one, request.data, request.val_data, board) for one in tasks}
            look = _Watch(self._latest(board), len(calls), progress)
            device = tasks[0].model.torch_device
            for budget, outcome in self.results(run_task, calls, torch_device=device, look=look):
                look.ended(budget)
                if reason := _keep(outcome, out / folder_of(budget)):
                    failures[budget] = reason
        return failures

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

    def results(
        self,
        function: Callable[..., R],
        calls: Mapping[str, tuple[Any, ...]],
        *,
        torch_device: str,
        look: Callable[[], None] = lambda: None,
    ) -> Iterator[tuple[str, R | TaskLost]]:
        """Call a function on the cluster's machines.

        Args:
            calls: Arguments of each call, by a name.
            torch_device: Kind of torch device on which the function trains.
            look: Called again and again while there are calls that have not ended.

        Yields:
            The result of each call by its name, as soon as it has ended; a `TaskLost` where it was
            lost.
        """
        task = self._ray.remote(
            num_cpus=self._cpus, num_gpus=self._gpus_on(torch_device), max_retries=RETRIES
        )(function)
        running = {task.remote(*arguments): name for name, arguments in calls.items()}
        while running:
            ended, _ = self._ray.wait(list(running), timeout=_LOOK_SECONDS)
            look()
            for reference in ended:
                yield running.pop(reference), self._result(reference)

    def sent(self, model: nn.Module) -> SentNetwork:
        """A network as it is sent to the cluster's machines."""
        # cloned: layers may share their weights
        state = {
            name: value.cpu().clone().contiguous() for name, value in model.state_dict().items()
        }
        return SentNetwork(
            reference=self._model or _reference(model),
            weights=save(state),
            torch_device=next(model.parameters()).device.type,
            frozen=frozenset(n for n, one in model.named_parameters() if not one.requires_grad),
            in_eval=frozenset(n for n, one in model.named_modules() if not one.training),
        )

    def _gpus_on(self, torch_device: str) -> float:
        if self._gpus is not None:
            return self._gpus
        return 1.0 if torch_device == "cuda" else 0.0

    def _result(self, reference: Any) -> Any:
        """The result of a call that has ended.

        An error of the function itself is raised; it is a fault of the program.
        """
        errors = self._ray.exceptions
        try:
            return self._ray.get(reference)
        except errors.RayTaskError:
            raise
        except errors.RayError as error:
            return TaskLost(
                f"The cluster lost the task {RETRIES + 1} times: {first_line(error)}.",
                "See that its machines have enough memory, then go on with --resume (`resume`).",
            )

    def _latest(self, board: Any) -> Callable[[], dict[str, ProgressEvent]]:
        def latest() -> dict[str, ProgressEvent]:
            try:
                found: dict[str, ProgressEvent] = self._ray.get(board.latest.remote(), timeout=5.0)
            except self._ray.exceptions.RayError:  # it starts again by itself
                return {}
            return found

        return latest

    def _tasks(
        self, request: JobRequest, budgets: Sequence[str], client: Client, storage: Path | None
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
                folder=storage and storage.absolute() / folder_of(budget),
            )
            for budget in budgets
        ]


class Board:
    """Actor of the cluster that knows how far each job is."""

    def __init__(self) -> None:
        self._events: dict[str, ProgressEvent] = {}

    def note(self, budget: str, event: ProgressEvent) -> None:
        """Replace what is known of a job."""
        self._events[budget] = event

    def latest(self) -> dict[str, ProgressEvent]:
        """The newest event of each job, by its budget."""
        return self._events


class _Watch:
    """Reports how far all jobs together are."""

    def __init__(
        self, latest: Callable[[], dict[str, ProgressEvent]], total: int, progress: Progress
    ) -> None:
        self._latest = latest
        self._total = total
        self._progress = progress
        self._ended: set[str] = set()

    def __call__(self) -> None:
        running = {
            budget: _brief(event)
            for budget, event in self._latest().items()
            if budget not in self._ended
        }
        self._report(running)

    def ended(self, budget: str) -> None:
        """The job of a budget has ended."""
        self._ended.add(budget)
        self._report({})

    def _report(self, figures: Mapping[str, str]) -> None:
        event = ProgressEvent(
            phase=PHASE, done=len(self._ended), total=self._total, unit="jobs", figures=figures
        )
        self._progress(event)


def _brief(event: ProgressEvent) -> str:
    return f"{event.phase} {event.done}/{event.total}" if event.total else event.phase


def _forget_checkpoints(storage: Path, budgets: Sequence[str]) -> None:
    """A task goes on from what it finds: of a former sweep it must find nothing."""
    for budget in budgets:
        shutil.rmtree(storage / folder_of(budget) / FOLDER, ignore_errors=True)


def _reference(model: nn.Module) -> str:
    kind = type(model)
    return f"{kind.__module__}:{kind.__qualname__}"


def _keep(outcome: TaskOutcome | TaskLost, folder: Path) -> str | None:
    """Write the files of a finished job; the reason of one that failed."""
    if isinstance(outcome, TaskLost):
        return outcome.message
    if outcome.failure is not None:
        return outcome.failure
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in outcome.files.items():
        write_whole(folder / name, content, mode=0o644)
    return None
