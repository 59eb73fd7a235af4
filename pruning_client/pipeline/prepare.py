"""What comes before the budget matters: search space, devices, the dense network's measurement,
predictors.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import nn

from latency_service.core.client import Client
from latency_service.devices.schemas import DeviceView
from latency_service.predictors.schemas import PredictorView
from pruning_client.data.batches import Batches, first_images
from pruning_client.errors import BudgetError, ModelError
from pruning_client.execution.journal import Journal
from pruning_client.execution.progress import Progress, ProgressEvent
from pruning_client.graph.space import Traced, make_space
from pruning_client.latency.predictor import LocalSource, Predictor
from pruning_client.pipeline.budget import Budget, parse_budget
from pruning_client.pipeline.config import PruneConfig, as_plain
from pruning_client.pipeline.job import PruningJob
from pruning_client.pipeline.measure import FileMeasurement, FileMeasurements
from pruning_client.service.lookup import find_device, find_named, need_predictor


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A job up to the point where its budget begins to matter; several budgets can share it."""

    job: PruningJob
    #: the dense network on every target
    dense: FileMeasurements
    dense_accuracy: float
    #: one for each target
    predictors: list[Predictor]


def prepare(
    model: nn.Module,
    train: Batches,
    held_out: Batches,
    *,
    client: Client,
    devices: Sequence[str | None],
    settings: PruneConfig,
    progress: Progress,
    folder: Path,
    journal: Journal,
    name: str | None,
    budget: str | None,
) -> Prepared:
    """Find the width groups, the devices and the predictors, and measure the dense network.

    Args:
        budget: as the user wrote it; one that leaves nothing to do is refused before a predictor is
            made.
    """
    found = [
        journal.value("device", DeviceView, lambda device=device: find_device(client, device))  # type: ignore[misc]
        for device in devices
    ]
    progress(ProgressEvent(phase="analyse the model", done=0, total=1))
    example = first_images(train)
    label = name or type(model).__name__
    traced = make_space(model, example, name=label)
    progress(ProgressEvent(phase="analyse the model", done=1, total=1))
    if not traced.space.groups:
        reasons = "; ".join(
            f"{layer}: {why}" for layer, why in traced.space.manifest.unprunable.items()
        )
        raise ModelError(
            f"Nothing in this {label} can be pruned: {reasons}.",
            "Give a network with convolutions.",
        )
    journal.check(_identity(traced, settings, found, budget))
    job = PruningJob(
        model=copy.deepcopy(model).eval(),
        train=train,
        held_out=held_out,
        example=example,
        client=client,
        config=settings,
        progress=progress,
        folder=folder,
        name=label,
        devices=found,
        traced=traced,
        journal=journal,
    )
    journal.value("space", str, lambda: client.create_space(traced.space).id)
    dense = job.measure_structure(
        job.model, [np.arange(width) for width in job.full], "measure the dense network"
    )
    if budget is not None:
        _check_something_to_do(parse_budget(budget), dense, found)
    predictors = [
        _predictor(job, device, measured) for device, measured in zip(found, dense, strict=True)
    ]
    return Prepared(
        job=job, dense=dense, dense_accuracy=job.evaluate(job.model), predictors=predictors
    )


def _check_something_to_do(
    budget: Budget, dense: FileMeasurements, devices: Sequence[DeviceView]
) -> None:
    if all(budget.in_ms(measured.latency_ms) >= measured.latency_ms for measured in dense):
        times = ", ".join(
            f"{m.latency_ms:.4g} ms on {d.name!r}" for m, d in zip(dense, devices, strict=True)
        )
        raise BudgetError(
            f"The dense network takes {times} and the budget is "
            f"{budget.in_ms(dense[0].latency_ms):.4g} ms: "
            "there is nothing to do.",
            "Deploy it as it is, or give a smaller budget.",
        )


def _predictor(job: PruningJob, device: DeviceView, dense: FileMeasurement) -> Predictor:
    client = job.client
    config = job.config

    def find() -> PredictorView:
        if config.predictor_id is not None:
            return find_named(
                client,
                config.predictor_id,
                space_id=job.space_id,
                device=device.name,
                runtime=config.runtime,
                target_id=dense.target_id,
            )
        return need_predictor(
            client,
            job.space_id,
            device.name,
            config.runtime,
            dense.target_id,
            config.campaign,
            config.training.seed,
            job.progress,
        )

    with job.watch("campaign"):
        view = job.journal.value("predictor", PredictorView, find)
    if config.predictor == "served":
        return Predictor.served(client, view)
    return Predictor(view, LocalSource(job.journal.data("artifact", lambda: client.artifact(view))))


def _identity(
    traced: Traced, settings: PruneConfig, devices: Sequence[DeviceView], budget: str | None
) -> str:
    """A hash of what decides a job's result: network, weights, settings, devices and budget."""
    digest = hashlib.sha256(traced.space.data)
    for name in sorted(traced.weights):
        digest.update(traced.weights[name].tobytes())
    more = {
        "settings": as_plain(settings),
        "devices": [device.name for device in devices],
        "budget": budget,
    }
    digest.update(json.dumps(more, sort_keys=True).encode())
    return digest.hexdigest()
