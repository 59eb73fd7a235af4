"""Demo data: everything that the dashboard can show, measured on this machine in minutes.

A campaign with its predictor, some of its architectures on two threads where there are cores, and
two pruning runs. What is there already is not made again, so that a demo which was stopped goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import psutil
import torch

from latency_service.campaigns.schemas import CampaignRequest
from latency_service.core.client import Client
from latency_service.devices.schemas import RuntimeConfig
from latency_service.measurements.schemas import Protocol
from pruning_client.data.sources import as_batches
from pruning_client.demo.network import SIDE, DigitsDemo, digits
from pruning_client.errors import PruningError
from pruning_client.execution.progress import Progress, ProgressEvent
from pruning_client.graph.space import SearchSpace
from pruning_client.methods.base import Method
from pruning_client.methods.magnitude import Uniform
from pruning_client.methods.w_gates import WGates
from pruning_client.pipeline.prune import prune
from pruning_client.pipeline.verify import Verify
from pruning_client.service.campaign import Campaign
from pruning_client.service.lookup import run_campaign
from pruning_client.training.config import Training
from pruning_client.training.trainer import finetune


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of everything."""

    #: architectures of each campaign, and of them those measured twice
    architectures: int = 36
    repeats: int = 6
    #: architectures that are measured on the second target too
    compared: int = 16
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


#: Fewer rounds than usual where these are precise already: on a quiet machine they are.
PROTOCOL = Protocol(min_rounds=9)


@dataclass(frozen=True, kw_only=True)
class Filled:
    """What became of the demo data."""

    #: steps that were made now
    made: int
    #: cause and cure of each step that failed, by its name
    failed: Mapping[str, PruningError]


def fill(client: Client, device: str, progress: Progress, size: Size) -> Filled:
    """Make what is missing of the demo data. A step that fails, because the machine was too busy
    to be measured for example, does not keep the others from being made.

    Args:
        device: name of this machine in the service.
        progress: called with every event; its phase begins with the number of the step.

    Raises:
        ApiError: the service refused, or does not answer.
    """
    space_id = client.create_space(SearchSpace.from_model(DigitsDemo(), (1, SIDE, SIDE))).id
    steps = [*_campaigns(client, space_id, device, size), *_runs(client, space_id, device, size)]
    missing = [step for step in steps if not step.is_there()]
    failed = {}
    for step in missing:
        try:
            step.make(_numbered(progress, steps.index(step) + 1, len(steps), step.name))
        except PruningError as error:
            failed[step.name] = error
    return Filled(made=len(missing) - len(failed), failed=failed)


def _numbered(progress: Progress, number: int, count: int, name: str) -> Progress:
    def tell(event: ProgressEvent) -> None:
        progress(replace(event, phase=f"step {number} of {count}, {name}: {event.phase}"))

    return tell


def _campaigns(client: Client, space_id: str, device: str, size: Size) -> list[Step]:
    campaign = CampaignRequest(
        space_id=space_id,
        device=device,
        count=size.architectures,
        repeats=size.repeats,
        batch_size=8,
        protocol=PROTOCOL,
    )

    def has_predictor() -> bool:
        wanted = (space_id, device, campaign.runtime, False)
        return any(
            (view.space_id, view.device, view.runtime, view.stale) == wanted
            for view in client.predictors()
        )

    def make(progress: Progress) -> None:
        run_campaign(client, campaign, Campaign(), progress)

    first = Step(name="campaign on 1 thread", is_there=has_predictor, make=make)
    cores = psutil.cpu_count() or 1
    return [first, _second_target(client, campaign, size)] if cores > 1 else [first]


def _second_target(client: Client, first: CampaignRequest, size: Size) -> Step:
    """Some architectures of the first campaign on two threads, to be compared."""
    runtime = RuntimeConfig(intra_threads=2)

    def is_there() -> bool:
        found = client.campaigns(space_id=first.space_id, device=first.device, state="done")
        return any(view.runtime == runtime for view in found)

    def make(progress: Progress) -> None:
        measured = client.measurements(space_id=first.space_id, device=first.device)
        known = dict.fromkeys(tuple(one.widths) for one in measured if one.widths)
        changes = {
            "runtime": runtime,
            "purpose": "measure",
            "widths": [list(widths) for widths in known][: size.compared],
        }
        run_campaign(client, first.model_copy(update=changes), Campaign(), progress)

    return Step(name="the same on 2 threads", is_there=is_there, make=make)


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
