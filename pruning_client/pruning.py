"""`prune`: from a network, data and a budget to a file whose latency was measured on the device."""

from __future__ import annotations

import copy
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from latency_service.devices.schemas import RuntimeConfig
from latency_service.predictors.schemas import PredictorView
from pruning_client import summary
from pruning_client.budget import parse_budget
from pruning_client.client import Client
from pruning_client.config import LossName, PredictorSource, PruneConfig
from pruning_client.data import Batches, as_batches, check_fit, first_images
from pruning_client.delivery import Delivery
from pruning_client.errors import BudgetError, ModelError
from pruning_client.groups import make_space
from pruning_client.job import Job
from pruning_client.latency import Predictor
from pruning_client.methods.base import Context, Selection
from pruning_client.methods.registry import method_of
from pruning_client.predictors import find_device, need_predictor, open_predictor
from pruning_client.progress import Progress, Step, silent
from pruning_client.results import Report
from pruning_client.summary import Finished
from pruning_client.verify import Correction, verification


@dataclass(frozen=True, kw_only=True)
class PruneResult:
    """A pruned network and its proof."""

    #: in eval mode, on the device of the model that was given
    module: nn.Module
    report: Report
    #: where the files lie, or None when no folder was asked for
    folder: Path | None


def prune(
    model: nn.Module, data: Any, *, budget_ms: float | str, device: str | None = None, method: str | None = None,
    loss: LossName | None = None, epochs: int | None = None, finetune_epochs: int | None = None, val_data: Any = None,
    client: Client | None = None, out_dir: Path | str | None = None, predictor: PredictorSource | None = None,
    progress: Progress | None = None, seed: int | None = None, runtime: RuntimeConfig | None = None,
    config: PruneConfig | None = None, name: str | None = None, command: str | None = None,
) -> PruneResult:  # fmt: skip
    """Prune a trained classifier until it meets a latency budget on a device, proven by measuring it there.

    Args:
        model: trained; it is copied, not changed. Its device is where training runs.
        data: what `data.as_batches` takes; a fifth is held out for accuracy unless `val_data` are given.
        budget_ms: milliseconds, a duration such as "1.2ms", or a share of the dense network's measured latency, "60%".
        device: the device's name; the only one by default.
        method, loss, epochs, finetune_epochs, predictor, seed, runtime: override what `config` says.
        client: the service; by default the one of LATENCY_SERVICE_URL, or the embedded one.
        out_dir: folder for report.json, report.html, pruned.onnx and pruned.safetensors.
        command: what the report says to run to get the same again.

    Raises:
        PruningError: see `pruning_client.errors`; nothing has been started when model, data or options are at fault.
        ApiError: the service refused, or does not answer.
    """
    settings = _settings(
        config, method=method, predictor=predictor, seed=seed, runtime=runtime, loss=loss, epochs=epochs,
        finetune_epochs=finetune_epochs,
    )  # fmt: skip
    wanted = parse_budget(budget_ms)
    method_of(settings.method)
    train, held_out = _data(data, val_data, settings)
    check_fit(model, train)
    opened = client or Client()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(out_dir) if out_dir else Path(scratch)
            folder.mkdir(parents=True, exist_ok=True)
            found = find_device(opened, device)
            progress = progress or silent
            progress(Step(phase="analyse the model", done=0, total=1))
            example = first_images(train)
            label = name or type(model).__name__
            traced = make_space(model, example, name=label)
            progress(Step(phase="analyse the model", done=1, total=1))
            job = Job(
                model=copy.deepcopy(model).eval(), train=train, held_out=held_out, example=example, budget=wanted,
                client=opened, config=settings, progress=progress, folder=folder, name=label, device=found,
                traced=traced,
            )  # fmt: skip
            made = command or f"prune(model, data, budget_ms={budget_ms!r}, seed={settings.seed})"
            module, written = _run(job, str(budget_ms), made)
            return PruneResult(module=module, report=written, folder=Path(out_dir) if out_dir else None)
    finally:
        if client is None:
            opened.close()


def _run(job: Job, budget: str, command: str) -> tuple[nn.Module, Report]:
    if not job.traced.space.groups:
        reasons = "; ".join(f"{layer}: {why}" for layer, why in job.traced.space.manifest.unprunable.items())
        raise ModelError(f"Nothing in this {job.name} can be pruned: {reasons}.", "Give a network with convolutions.")
    job.client.create_space(job.traced.space)
    everything = [np.arange(width) for width in job.full]
    dense = job.measure_structure(job.model, everything, "measure the dense network")
    budget_ms = job.budget.in_ms(dense.latency_ms)
    if budget_ms >= dense.latency_ms:
        raise BudgetError(
            f"The dense network takes {dense.latency_ms:.4g} ms on {job.device.name!r} and the budget is "
            f"{budget_ms:.4g} ms: there is nothing to do.", "Deploy it as it is, or give a smaller budget.",
        )  # fmt: skip
    view = _need_predictor(job, dense.target_id)
    predictor = open_predictor(job.client, view, job.config.predictor)
    _check_budget(predictor, budget_ms)
    dense_accuracy = job.evaluate(job.model)
    gated, selection = _select(job, predictor, budget_ms)
    correction = Correction(
        predictor=predictor, scores=selection.scores, budget_ms=budget_ms, config=job.config.verify,
        log=[verification("dense", job.full, predictor.one_ms(job.full), dense)],
    )  # fmt: skip
    delivered = Delivery(job=job, correction=correction, gated=gated, history=selection.history)
    delivered.make(selection)
    delivered.close()
    finished = Finished(
        dense=dense, dense_accuracy=dense_accuracy, budget=budget, budget_ms=budget_ms, view=view, predictor=predictor,
        delivered=delivered, command=command,
    )  # fmt: skip
    return delivered.module, summary.write(job, finished)


def _settings(
    config: PruneConfig | None, *, loss: LossName | None, epochs: int | None, finetune_epochs: int | None,
    **overrides: Any,
) -> PruneConfig:  # fmt: skip
    made = replace(config or PruneConfig(), **{name: value for name, value in overrides.items() if value is not None})
    gates = {"loss": loss, "epochs": epochs}
    gates = {name: value for name, value in gates.items() if value is not None}
    made = replace(made, gates=replace(made.gates, **gates))  # type: ignore[arg-type]
    if finetune_epochs is None:
        return made
    return replace(made, finetune=replace(made.finetune, epochs=finetune_epochs))


def _data(data: Any, val_data: Any, config: PruneConfig) -> tuple[Batches, Batches]:
    batches = as_batches(data, batch_size=config.batch_size)
    if val_data is None:
        return batches.split(config.held_out, config.seed)
    return batches, as_batches(val_data, batch_size=config.batch_size)


def _need_predictor(job: Job, target_id: str) -> PredictorView:
    with job.watch("campaign"):
        return need_predictor(
            job.client, job.space_id, job.device.name, job.config.runtime, target_id, job.config.campaign,
            job.config.seed, job.progress,
        )  # fmt: skip


def _check_budget(predictor: Predictor, budget_ms: float) -> None:
    lowest_ms = predictor.one_ms([choices[0] for choices in predictor.lattice])
    if lowest_ms > budget_ms:
        raise BudgetError(
            f"A budget of {budget_ms:.4g} ms is below what this network can reach: the lowest is {lowest_ms:.4g} ms, "
            "with every width group at its minimum.", "Give a larger budget, or a smaller network.",
        )  # fmt: skip


def _select(job: Job, predictor: Predictor, budget_ms: float) -> tuple[nn.Module, Selection]:
    """Run the method on a copy of the dense network; the copy keeps the weights that it trained."""
    torch.manual_seed(job.config.seed)
    gated = copy.deepcopy(job.model)
    context = Context(
        model=gated, traced=job.traced, train=job.train, predictor=predictor,
        target_ms=budget_ms * (1 - job.config.verify.margin), config=job.config, progress=job.progress,
        evaluate=job.evaluate,
    )  # fmt: skip
    with job.watch("prune"):
        return gated, method_of(job.config.method).run(context)
