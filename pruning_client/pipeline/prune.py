"""`prune`: from a network, data and a budget to a file whose latency was measured on the device."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from latency_service.core.client import Client
from latency_service.core.files import write_whole
from latency_service.devices.schemas import RuntimeConfig
from pruning_client.data.batches import Batches, as_batches, check_fit
from pruning_client.errors import BudgetError, UsageError
from pruning_client.execution import distributed
from pruning_client.execution.journal import FOLDER, Journal
from pruning_client.execution.progress import Progress, silent
from pruning_client.latency.multi_target import worst_of
from pruning_client.latency.predictor import Predictor
from pruning_client.methods.base import Context, Method, Selection
from pruning_client.pipeline import report
from pruning_client.pipeline.budget import Budget, parse_budget, written
from pruning_client.pipeline.config import PredictorSource, PruneConfig
from pruning_client.pipeline.deliver import deliver
from pruning_client.pipeline.goals import Goal
from pruning_client.pipeline.job import PruningJob
from pruning_client.pipeline.prepare import Prepared, prepare
from pruning_client.pipeline.report import Finished
from pruning_client.reports.schema import Report
from pruning_client.training.config import Training


@dataclass(frozen=True, kw_only=True)
class PruneResult:
    """A pruned network and its proof."""

    #: Pruned network in eval mode, on the torch device of the given model.
    module: nn.Module
    report: Report
    #: Folder of the files; None when no folder was asked for.
    folder: Path | None
    #: ONNX file that was measured.
    file: bytes = field(repr=False)
    #: Contents of all files of the job by name, the ONNX file among them.
    files: Mapping[str, bytes] = field(repr=False)

    @property
    def met(self) -> bool:
        """Whether the measured latency is within the budget."""
        return self.report.met

    @property
    def widths(self) -> list[int]:
        """Widths [G] of the pruned network, one per width group."""
        return [group.after for group in self.report.widths]

    def save(self, folder: Path | str) -> Path:
        """Write report.json, report.html, pruned.onnx and pruned.safetensors to a folder."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            write_whole(target / name, content, mode=0o644)
        return target


def prune(
    model: nn.Module,
    data: Any,
    *,
    budget_ms: float | str,
    device: str | Sequence[str] | None = None,
    method: Method | None = None,
    training: Training | None = None,
    val_data: Any = None,
    client: Client | None = None,
    out_dir: Path | str | None = None,
    predictor: PredictorSource | None = None,
    progress: Progress | None = None,
    runtime: RuntimeConfig | None = None,
    config: PruneConfig | None = None,
    name: str | None = None,
    command: str | None = None,
    resume: bool = False,
) -> PruneResult:
    """Prune a trained classifier until it meets a latency budget on a device, proven by measuring
    it there.

    Args:
        model: trained; it is copied, not changed. Its device is where training runs.
        data: what `data.as_batches` takes; a fifth is held out for accuracy unless `val_data` are
            given.
        budget_ms: milliseconds, a duration such as "1.2ms", or a share of the dense network's
            measured latency, "60%".
        device: the device's name, the only one by default; of several names every one has to meet
            the budget.
        method, training, predictor, runtime: override what `config` says.
        client: the service; by default the one of LATENCY_SERVICE_URL, or the embedded one.
        out_dir: folder for report.json, report.html, pruned.onnx and pruned.safetensors.
        command: what the report says to run to get the same again.
        resume: go on from the checkpoint that a stopped job left in `out_dir`; the result is the
            same as without stop.

    Raises:
        PruningError: see `pruning_client.errors`; nothing has been started when model, data or
            options are at fault.
        ApiError: the service refused, or does not answer.
    """
    settings = _settings(
        config,
        method=method,
        predictor=predictor,
        training=training,
        runtime=runtime,
    )
    wanted = parse_budget(budget_ms)
    train, held_out = check(model, data, val_data, settings)
    if resume and out_dir is None:
        raise UsageError(
            "There is no folder to resume from.", "Give the folder of the stopped job (`out_dir`)."
        )
    opened = client or Client()
    try:
        with tempfile.TemporaryDirectory() as scratch:
            first = distributed.rank() == 0
            folder = Path(out_dir) if out_dir and first else Path(scratch)
            folder.mkdir(parents=True, exist_ok=True)
            journal = Journal(Path(out_dir) / FOLDER if out_dir else None, resume=resume)
            prepared = prepare(
                model,
                train,
                held_out,
                client=opened,
                devices=device_names(device),
                settings=settings,
                progress=(progress or silent) if first else silent,
                folder=folder,
                journal=journal,
                name=name,
                budget=written(budget_ms),
            )
            made = (
                command
                or f"prune(model, data, budget_ms={budget_ms!r}, seed={settings.training.seed})"
            )
            result = run(prepared, wanted, written(budget_ms), made)
            journal.close()
            return replace(result, folder=Path(out_dir) if out_dir else None)
    finally:
        if client is None:
            opened.close()


def check(
    model: nn.Module, data: Any, val_data: Any, settings: PruneConfig
) -> tuple[Batches, Batches]:
    """Data for training and held-out data, after everything has been tried that needs no service.

    Raises:
        PruningError: the method, the data or their fit to the model.
    """
    if settings.predictor == "served" and distributed.world() > 1:
        raise UsageError(
            "A served predictor would be asked by every process.",
            "Use the local one: `--predictor local`.",
        )
    train, held_out = _data(data, val_data, settings)
    check_fit(model, train, labels=settings.training.recipe.evaluate is None)
    return train, held_out


def run(prepared: Prepared, budget: Budget, text: str, command: str) -> PruneResult:
    """Prune for one budget what has been prepared.

    Raises:
        BudgetError: the dense network keeps it already, or no architecture reaches it.
        SlowerThanDense: what came out is slower than the dense network.
    """
    job = prepared.job
    goals = [
        Goal(
            device=device,
            predictor=predictor,
            budget_ms=budget.in_ms(dense.latency_ms),
            dense=dense,
        )
        for device, predictor, dense in zip(
            job.devices, prepared.predictors, prepared.dense, strict=True
        )
    ]
    _check_budgets(goals)
    predictor = worst_of([goal.predictor for goal in goals], [goal.budget_ms for goal in goals])
    gated, selection = _select(job, predictor, goals[0].budget_ms)
    delivered = deliver(job, goals, gated, selection)
    finished = Finished(
        goals=goals,
        dense_accuracy=prepared.dense_accuracy,
        budget=text,
        delivered=delivered,
        command=command,
    )
    written_report = report.write(job, finished)
    return PruneResult(
        module=delivered.best.module,
        report=written_report,
        folder=job.folder,
        file=delivered.best.data,
        files={
            path.name: path.read_bytes() for path in sorted(job.folder.iterdir()) if path.is_file()
        },
    )


def device_names(device: str | Sequence[str] | None) -> list[str | None]:
    """Names, each once; None stands for the only device."""
    if device is None or isinstance(device, str):
        return [device]
    return list(dict.fromkeys(device)) or [None]


def _settings(config: PruneConfig | None, **overrides: Any) -> PruneConfig:
    given = {name: value for name, value in overrides.items() if value is not None}
    return replace(config or PruneConfig(), **given)


def _data(data: Any, val_data: Any, config: PruneConfig) -> tuple[Batches, Batches]:
    batches = as_batches(data, batch_size=config.training.batch_size)
    if val_data is None:
        return batches.split(config.training.held_out, config.training.seed)
    return batches, as_batches(val_data, batch_size=config.training.batch_size)


def _check_budgets(goals: Sequence[Goal]) -> None:
    for goal in goals:
        lowest_ms = goal.predictor.one_ms([choices[0] for choices in goal.predictor.lattice])
        if lowest_ms > goal.budget_ms:
            raise BudgetError(
                f"A budget of {goal.budget_ms:.4g} ms is below what this network can reach: "
                "the lowest is "
                f"{lowest_ms:.4g} ms on {goal.device.name!r}, with every width group at its "
                "minimum.",
                "Give a larger budget, or a smaller network.",
            )


def _select(job: PruningJob, predictor: Predictor, budget_ms: float) -> tuple[nn.Module, Selection]:
    """Run the method on a copy of the dense network; the copy keeps the weights that it trained."""
    torch.manual_seed(job.config.training.seed)
    gated = copy.deepcopy(job.model)
    context = Context(
        model=gated,
        traced=job.traced,
        train=job.train,
        predictor=predictor,
        target_ms=budget_ms * (1 - job.config.verify.margin),
        training=job.config.training,
        progress=job.progress,
        evaluate=job.evaluate,
        journal=job.journal,
    )
    with job.watch("prune"):
        return gated, job.config.method.run(context)
