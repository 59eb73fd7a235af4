"""Demo data: everything that the dashboard can show, measured on this machine in minutes.

A campaign with its predictor on one thread and, where there are cores, on two, and two pruning
runs. What is there already is not made again, so that a demo which was stopped goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import psutil
import torch

from latency_service.campaigns.schemas import CampaignRequest
from latency_service.core.client import Client
from latency_service.devices.schemas import RuntimeConfig
from latency_service.measurements.schemas import Protocol
from pruning_client.data.sources import as_batches
from pruning_client.demo.network import SIDE, DigitsDemo, digits
from pruning_client.execution.progress import Progress, ProgressEvent
from pruning_client.graph.space import SearchSpace
from pruning_client.methods.base import Method
from pruning_client.methods.magnitude import Uniform
from pruning_client.methods.w_gates import WGates
from pruning_client.pipeline.prune import prune
from pruning_client.pipeline.verify import Verify
from pruning_client.service.campaign import Campaign
from pruning_client.service.lookup import make_predictor
from pruning_client.training.config import Training
from pruning_client.training.trainer import finetune


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of everything."""

    #: architectures of each campaign, and of them those measured twice
    architectures: int = 36
    repeats: int = 6
    dense_epochs: int = 6
    gate_epochs: int = 4
    last_epochs: int = 2
    #: time for the measurements of one run's files, seconds
    verify_seconds: float = 15.0
    budget: str = "60%"


@dataclass(frozen=True, kw_only=True)
class Step:
    """One part of the demo data."""

    name: str
    is_there: Callable[[], bool]
    make: Callable[[Progress], None]


#: Shorter than usual: tight intervals on many architectures matter less here than an early end.
PROTOCOL = Protocol(min_rounds=9, max_rounds=40, budget_seconds=1.0, warmup_min_seconds=0.05)


def fill(client: Client, device: str, progress: Progress, size: Size) -> int:
    """Make what is missing of the demo data; returns the number of steps that were made.

    Args:
        device: name of this machine in the service.
        progress: called with every event; its phase begins with the number of the step.

    Raises:
        PruningError: a step failed; those before it stay.
        ApiError: the service refused, or does not answer.
    """
    space_id = client.create_space(SearchSpace.from_model(DigitsDemo(), (1, SIDE, SIDE))).id
    steps = [*_campaigns(client, space_id, device, size), *_runs(client, space_id, device, size)]
    missing = [step for step in steps if not step.is_there()]
    for step in missing:
        step.make(_numbered(progress, steps.index(step) + 1, len(steps), step.name))
    return len(missing)


def runtimes() -> list[RuntimeConfig]:
    """Runtime configurations that this machine has the cores for."""
    counts = [1, 2] if (psutil.cpu_count() or 1) > 1 else [1]
    return [RuntimeConfig(intra_threads=count) for count in counts]


def _numbered(progress: Progress, number: int, count: int, name: str) -> Progress:
    def tell(event: ProgressEvent) -> None:
        progress(replace(event, phase=f"step {number} of {count}, {name}: {event.phase}"))

    return tell


def _campaigns(client: Client, space_id: str, device: str, size: Size) -> list[Step]:
    return [_campaign(client, space_id, device, runtime, size) for runtime in runtimes()]


def _campaign(
    client: Client, space_id: str, device: str, runtime: RuntimeConfig, size: Size
) -> Step:
    request = CampaignRequest(
        space_id=space_id,
        device=device,
        runtime=runtime,
        count=size.architectures,
        repeats=size.repeats,
        batch_size=8,
        protocol=PROTOCOL,
    )

    def is_there() -> bool:
        wanted = (space_id, device, runtime, False)
        return any(
            (view.space_id, view.device, view.runtime, view.stale) == wanted
            for view in client.predictors()
        )

    def make(progress: Progress) -> None:
        make_predictor(client, request, Campaign(), progress)

    threads = "1 thread" if runtime.intra_threads == 1 else f"{runtime.intra_threads} threads"
    return Step(name=f"campaign on {threads}", is_there=is_there, make=make)


class _Trained:
    """The data and the dense network, trained when it is first asked for."""

    def __init__(self, epochs: int) -> None:
        self.train, self.held_out = as_batches(digits()).split(0.2, 0)
        self._epochs = epochs
        self._model: DigitsDemo | None = None

    def model(self, progress: Progress) -> DigitsDemo:
        if self._model is None:
            torch.manual_seed(0)
            self._model = DigitsDemo()
            training = Training(epochs=self._epochs, lr=0.1, weight_decay=5e-4)
            phase = "train the dense network"
            finetune(self._model, self.train, training, progress=progress, phase=phase)
        return self._model


def _runs(client: Client, space_id: str, device: str, size: Size) -> list[Step]:
    methods: Sequence[Method] = (WGates(epochs=size.gate_epochs), Uniform())
    trained = _Trained(size.dense_epochs)
    return [_run(client, space_id, device, method, trained, size) for method in methods]


def _run(
    client: Client, space_id: str, device: str, method: Method, trained: _Trained, size: Size
) -> Step:
    def is_there() -> bool:
        return any(
            (run.space_id, run.method, run.state) == (space_id, method.name, "done")
            for run in client.runs()
        )

    def make(progress: Progress) -> None:
        prune(
            trained.model(progress),
            trained.train,
            val_data=trained.held_out,
            budget=size.budget,
            target=device,
            client=client,
            method=method,
            training=Training(epochs=size.last_epochs),
            verify=Verify(
                rounds=2,
                late_rounds=1,
                seconds=size.verify_seconds,
                pause_seconds=2.0,
            ),
            campaign=Campaign(architectures=size.architectures, repeats=size.repeats),
            progress=progress,
        )

    return Step(name=f"prune by {method.name}", is_there=is_there, make=make)
