"""The part of a job before its budget matters: search space, targets, dense network, predictors."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from latency_service.core.client import Client
from latency_service.devices.schemas import DeviceView
from latency_service.predictors.schemas import PredictorView
from pruning_client.data.batches import Batches, first_inputs
from pruning_client.errors import BudgetError, ModelError
from pruning_client.execution.copies import copied
from pruning_client.execution.journal import Journal
from pruning_client.execution.progress import Progress, ProgressEvent
from pruning_client.graph.space import Traced, make_space
from pruning_client.latency.budget import parse_budget
from pruning_client.latency.predictor import LocalSource, Predictor
from pruning_client.latency.readings import FileMeasurement, FileMeasurements, pooled
from pruning_client.methods.base import Checking, Problem, Widening
from pruning_client.methods.effort import own_epochs
from pruning_client.pipeline import cautions
from pruning_client.pipeline.job import Given, PruningJob
from pruning_client.pipeline.quantisation import (
    FileQuantiser,
    calibration_samples,
)
from pruning_client.pipeline.quantisation_settings import Quantisation
from pruning_client.pipeline.rehearsal import rehearse
from pruning_client.pipeline.settings import JobRequest, JobSettings
from pruning_client.service.lookup import PredictorQuery, find_device, find_named, need_predictor
from pruning_client.service.target import DeviceTarget, Target
from pruning_client.training.batch_norm import mark_frozen
from pruning_client.training.memory_format import channels_last_is_faster, in_format
from pruning_client.training.soundness import check_given

#: Number of readings of the dense network before the widths are chosen. Their scatter shows by how
#: much fresh processes differ on this target.
_DENSE_READINGS = 3


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A job up to the point where its budget matters; several budgets can share it."""

    job: PruningJob
    #: readings of the dense network, each on every target
    dense: list[FileMeasurements]
    #: one for each target
    predictors: list[Predictor]


def prepare(job: PruningJob, budget: str | None) -> Prepared:
    """Measure the dense network, and find or make a predictor for each target.

    Args:
        budget: as the user wrote it; one that leaves nothing to do is refused before a predictor is
            made.
    """
    dense = _measured_dense(job)
    if job.given is not None:
        job.wide = job.measure_wide()
    if budget is not None:
        check_something_to_do(budget, _together(dense), job)
    return Prepared(
        job=job,
        dense=dense,
        predictors=[_predictor(job, *pair) for pair in zip(job.targets, dense[-1], strict=True)],
    )


def analyse(
    request: JobRequest,
    train: Batches,
    held_out: Batches,
    *,
    client: Client,
    progress: Progress,
    folder: Path,
    journal: Journal,
    budget: str | None,
) -> PruningJob:
    """Find the width groups and the devices, check and rehearse; nothing is measured.

    Args:
        budget: as the user wrote it, for the identity of a job that can be resumed.
    """
    settings = request.for_data(train).settings
    targets = [_device_target(target, client, journal) for target in settings.targets]
    example = first_inputs(train)
    model, traced, given = _analysed(request, example, progress)
    progress(ProgressEvent(phase="rehearse", done=0, total=1))
    own = copied(model)
    check_given(own)
    frozen = mark_frozen(own)
    if isinstance(settings.method, Checking):
        problem = Problem(model=own, traced=traced, train=train, training=settings.training)
        settings.method.check(problem)
    quantiser = _quantiser(settings, train, journal, progress)
    if quantiser is not None:
        quantiser.check(own)
    first = next(iter(train.shuffled(settings.training.seed)))
    with cautions.gathered() as told:
        rehearse(own, traced, first, settings.training)
    progress(ProgressEvent(phase="rehearse", done=1, total=1))
    journal.check(_identity(traced, settings, targets, budget))
    epochs = own_epochs(settings.method) + settings.training.finetune_epochs
    samples = epochs * len(train) * len(first)
    in_channels_last = journal.value(
        "channels last",
        bool,
        lambda: channels_last_is_faster(own, first, settings.training, samples=samples),
    )
    if in_channels_last:
        for network in (own, given.model) if given else (own,):
            in_format(network, torch.channels_last)
    job = PruningJob(
        model=own.eval(),
        train=train,
        held_out=held_out,
        example=example,
        client=client,
        settings=settings,
        progress=progress,
        folder=folder,
        name=type(request.model).__name__,
        targets=targets,
        traced=traced,
        given=given,
        in_channels_last=in_channels_last,
        quantiser=quantiser,
        journal=journal,
    )
    for text in (*told, cautions.of_frozen_norms(frozen)):
        job.warn(text)
    if settings.training.recipe.measures_accuracy:
        job.warn(cautions.of_chance(job.dense_model, held_out, "dense"))
    journal.value("space", str, lambda: client.create_space(traced.measured.space).id)
    return job


def _analysed(
    request: JobRequest, example: tuple[Tensor, ...], progress: Progress
) -> tuple[nn.Module, Traced, Given | None]:
    """The network to prune with its search space, and the given network where that is another."""
    model = request.model
    method = request.settings.method
    traced = _traced(model, request, example, progress)
    if not isinstance(method, Widening):
        return model, traced, None
    progress(ProgressEvent(phase="widen the model", done=0, total=1))
    wide = method.widened(model, traced, request.settings.training.seed)
    progress(ProgressEvent(phase="widen the model", done=1, total=1))
    given = Given(model=copied(model).eval(), traced=traced)
    return wide, _traced(wide, request, example, progress), given


def _traced(
    model: nn.Module, request: JobRequest, example: tuple[Tensor, ...], progress: Progress
) -> Traced:
    progress(ProgressEvent(phase="analyse the model", done=0, total=1))
    name = type(request.model).__name__
    traced = make_space(model, example, name=name, deploy=request.deploy)
    progress(ProgressEvent(phase="analyse the model", done=1, total=1))
    _check_prunable(traced)
    return traced


def _quantiser(
    settings: JobSettings, train: Batches, journal: Journal, progress: Progress
) -> FileQuantiser | None:
    if settings.precision != "int8":
        return None
    config = settings.quantisation or Quantisation()
    return FileQuantiser(
        config,
        calibration_samples(train, config.images, settings.training.seed),
        {target.provider for target in settings.targets},
        journal=journal,
        progress=progress,
    )


def _measured_dense(job: PruningJob) -> list[FileMeasurements]:
    """Readings of the dense network, with a pause after a disturbed one."""
    readings = [job.measure_dense()]
    while len(readings) < _DENSE_READINGS:
        if any(reading.verdict != "ok" for reading in readings[-1]) and not job.journal.resumes:
            job.wait(job.settings.verify.pause_seconds, "waiting for a quieter machine")
        readings.append(job.measure_dense())
    return readings


def _together(readings: list[FileMeasurements]) -> FileMeasurements:
    """All readings on each target as one."""
    return tuple(
        pooled([reading.at(own[-1].reference_ms) for reading in own])
        for own in zip(*readings, strict=True)
    )


def _device_target(target: Target, client: Client, journal: Journal) -> DeviceTarget:
    device = journal.value("device", DeviceView, lambda: find_device(client, target.device))
    return DeviceTarget(device=device, runtime=target.runtime)


def _check_prunable(traced: Traced) -> None:
    manifest = traced.space.manifest
    if traced.space.groups:
        return
    if not manifest.unprunable:
        raise ModelError(
            f"Nothing in this {manifest.name} can be pruned: it has no layers that make channels.",
            "Give a network with convolutions or linear layers.",
        )
    reasons = "; ".join(f"{layer}: {why}" for layer, why in manifest.unprunable.items())
    raise ModelError(
        f"Nothing in this {manifest.name} can be pruned: {reasons}.",
        "Change what the reasons name, or give another network.",
    )


def check_something_to_do(text: str, dense: FileMeasurements, job: PruningJob) -> None:
    """Refuse a budget that the network to prune keeps as it is.

    Raises:
        BudgetError: it keeps the budget on every target.
    """
    budget = parse_budget(text)
    whole = job.wide or dense
    pairs = zip(dense, whole, strict=True)
    if any(budget.in_ms(before.latency_ms) < now.latency_ms for before, now in pairs):
        return
    latencies = ", ".join(
        f"{measured.latency_ms:.4g} ms on {target.device.name!r}"
        for measured, target in zip(whole, job.targets, strict=True)
    )
    raise BudgetError(
        f"The {'wider' if job.wide else 'dense'} network takes {latencies} and the budget is "
        f"{budget.in_ms(dense[0].latency_ms):.4g} ms: there is nothing to do.",
        "Deploy it as it is, or give a smaller budget.",
    )


def _predictor(job: PruningJob, target: DeviceTarget, dense: FileMeasurement) -> Predictor:
    client = job.client
    campaign = job.settings.campaign
    query = PredictorQuery(
        space_id=job.space_id,
        device=target.device.name,
        runtime=target.runtime,
        target_id=dense.target_id,
    )

    def find() -> PredictorView:
        if campaign.predictor_id is not None:
            return find_named(client, campaign.predictor_id, query)
        return need_predictor(client, query, campaign, job.settings.training.seed, job.progress)

    with job.watch("campaign"):
        view = job.journal.value("predictor", PredictorView, find)
    if campaign.source == "served":
        return Predictor.served(client, view)
    return Predictor(view, LocalSource(job.journal.data("artifact", lambda: client.artifact(view))))


def _identity(
    traced: Traced, settings: JobSettings, targets: list[DeviceTarget], budget: str | None
) -> str:
    """A hash of what decides a job's result: network, weights, settings, devices and budget."""
    digest = hashlib.sha256(traced.measured.space.data)
    for weights in (traced.weights, traced.deployed.graph.weights if traced.deployed else {}):
        for name in sorted(weights):
            digest.update(weights[name].tobytes())
    rest = {
        "settings": settings.as_plain(),
        "devices": [target.device.name for target in targets],
        "budget": budget,
    }
    digest.update(json.dumps(rest, sort_keys=True).encode())
    return digest.hexdigest()
