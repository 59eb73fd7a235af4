"""`prune`: from a network, data and a budget to a file whose latency was measured on the device."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from latency_service.core.client import Client
from pruning_client.errors import BudgetError, UsageError
from pruning_client.execution import distributed
from pruning_client.execution.copies import copied
from pruning_client.execution.journal import FOLDER, Journal
from pruning_client.execution.progress import Progress, silent
from pruning_client.graph.traced import Deploy
from pruning_client.latency.budget import Budget, budget_text, parse_budget
from pruning_client.latency.multi_target import worst_of
from pruning_client.latency.predictor import Predictor
from pruning_client.latency.readings import Evidence
from pruning_client.methods.base import Context, Method, Selection
from pruning_client.methods.w_gates import WGates
from pruning_client.pipeline import folders, live, report
from pruning_client.pipeline.decision import margin_of
from pruning_client.pipeline.deliver import deliver
from pruning_client.pipeline.goals import Goal
from pruning_client.pipeline.job import PruningJob
from pruning_client.pipeline.prepare import Prepared, analyse, prepare
from pruning_client.pipeline.quantisation_settings import Quantisation
from pruning_client.pipeline.report import Finished
from pruning_client.pipeline.result import PruneResult
from pruning_client.pipeline.settings import JobRequest, JobSettings
from pruning_client.pipeline.verify import Verify
from pruning_client.service.campaign import Campaign
from pruning_client.service.connection import announce, connected
from pruning_client.service.target import TargetLike, as_targets
from pruning_client.training.config import Training


def prune(
    model: nn.Module,
    data: Any,
    *,
    budget: float | str,
    target: TargetLike | None = None,
    method: Method = WGates(),
    val_data: Any = None,
    training: Training | None = None,
    verify: Verify | None = None,
    campaign: Campaign | None = None,
    quantisation: Quantisation | None = None,
    deploy: Deploy | None = None,
    client: Client | None = None,
    out_dir: Path | str | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> PruneResult:
    """Prune a trained classifier until it meets a latency budget on a target, proven by measuring
    it there.

    Args:
        model: trained network; it is copied, not changed. Training runs on its torch device.
        data: (images, labels) arrays, a DataLoader, a folder of class folders, or Parquet files; a
            fifth is held out for accuracy unless `val_data` are given.
        budget: a duration such as "1.2ms", a share of the dense network's measured latency such as
            "60%", or milliseconds.
        target: name of a device, a `Target`, or several of them, every one of which has to meet the
            budget; by default the only device in the default runtime configuration.
        method: how the channels to keep are decided, with its options.
        training: fine-tuning and the data loop, seed and the user's own recipe among it.
        verify: the closed loop of measuring and correcting.
        campaign: the predictor, and how one is made when the target has none.
        quantisation: how the file of int8 targets is quantised; refused for others.
        deploy: function of the trained network that returns the form to measure and export, such as
            branches fused into one convolution, or None when it has changed the given network.
        client: connection to a service; by default that of LATENCY_SERVICE_URL, then a service that
            runs on this machine, then the embedded one, started for the time of the job.
        out_dir: folder for report.json, report.html, pruned.onnx and pruned.safetensors, and for
            int8 targets pruned-fp32.onnx; without it the result holds everything, and
            `PruneResult.save` writes it.
        resume: continue from the checkpoint that a stopped job left in `out_dir`; the result is the
            same as without the stop.
        progress: called with every step.

    Raises:
        PruningError: see `pruning_client.errors`; nothing has been started when the model, the data
            or the settings are at fault.
        ApiError: the service refused, or does not answer.
    """
    settings = job_settings(target, method, training, verify, campaign, quantisation)
    request = JobRequest(
        model=model, data=data, val_data=val_data, settings=settings, deploy=deploy
    )
    return prune_request(
        request, budget, client=client, out_dir=out_dir, resume=resume, progress=progress
    )


def job_settings(
    target: TargetLike | None,
    method: Method,
    training: Training | None,
    verify: Verify | None,
    campaign: Campaign | None,
    quantisation: Quantisation | None,
) -> JobSettings:
    """Settings of a job; the default for each that is None."""
    return JobSettings(
        targets=as_targets(target),
        method=method,
        training=training or Training(),
        verify=verify or Verify(),
        campaign=campaign or Campaign(),
        quantisation=quantisation,
    )


def prune_request(
    request: JobRequest,
    budget: float | str,
    *,
    client: Client | None = None,
    out_dir: Path | str | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> PruneResult:
    """Do what a request asks for one budget; see `prune`."""
    parsed = parse_budget(budget)
    if resume and out_dir is None:
        raise UsageError(
            "There is no folder to resume from.", "Give the folder of the stopped job (`out_dir`)."
        )
    out = Path(out_dir) if out_dir else None
    is_first = distributed.rank() == 0
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(_working_folder(out if is_first else None))
        train, held_out = request.batches()
        service = stack.enter_context(connected(client, announce))
        journal = Journal(out / FOLDER if out else None, resume=resume)
        job = analyse(
            request,
            train,
            held_out,
            client=service,
            progress=(progress or silent) if is_first else silent,
            folder=folder,
            journal=journal,
            budget=budget_text(budget),
        )
        prepared = prepare(job, budget_text(budget))
        result = run(prepared, parsed, budget_text(budget), request.command(budget_text(budget)))
        journal.close()
    return replace(result, folder=out)


def run(prepared: Prepared, budget: Budget, text: str, command: str) -> PruneResult:
    """Prune what has been prepared for one budget.

    Raises:
        BudgetError: the dense network meets it already, or no architecture reaches it.
        SlowerThanDense: the pruned network is slower than the dense one.
    """
    job = prepared.job
    goals = goals_of(prepared, budget)
    check_reachable(goals)
    predictor = worst_of([goal.predictor for goal in goals], [goal.budget_ms for goal in goals])
    with live.recorded(job, goals) as followed:
        gated, selection = select(followed, predictor, goals[0].budget_ms * (1 - margin_of(goals)))
        delivered = deliver(followed, goals, gated, selection)
        finished = Finished(
            goals=goals,
            budget=text,
            delivered=delivered,
            command=command,
        )
        return report.write(followed, finished)


@contextlib.contextmanager
def _working_folder(out: Path | None) -> Iterator[Path]:
    """The output folder, or a temporary one where nothing is to be kept on disk."""
    if out is not None:
        with folders.held(out):
            yield out
        return
    with tempfile.TemporaryDirectory() as scratch:
        yield Path(scratch)


def goals_of(prepared: Prepared, budget: Budget) -> list[Goal]:
    """The targets of a job with this budget, and the readings of the dense network."""
    job = prepared.job
    targets = zip(job.targets, prepared.predictors, zip(*prepared.dense, strict=True), strict=True)
    return [
        Goal(
            device=target.device,
            runtime=target.runtime,
            predictor=predictor,
            evidence=Evidence.of_dense(
                budget, job.dense_widths, readings, dense_is_reference=job.dense_is_reference
            ),
        )
        for target, predictor, readings in targets
    ]


def check_reachable(goals: Sequence[Goal]) -> None:
    """Refuse budgets below the lowest latency that the predictors know.

    Raises:
        BudgetError: a budget cannot be reached.
    """
    for goal in goals:
        lowest_ms = goal.predictor.one_ms([choices[0] for choices in goal.predictor.lattice])
        if lowest_ms > goal.budget_ms:
            raise BudgetError(
                f"A budget of {goal.budget_ms:.4g} ms is below what this network can reach: "
                f"the lowest latency is {lowest_ms:.4g} ms on {goal.device.name!r}, with every "
                "width group at its minimum.",
                "Give a larger budget, or a smaller network.",
                lowest_ms,
            )


def select(job: PruningJob, predictor: Predictor, aim_ms: float) -> tuple[nn.Module, Selection]:
    """Run the method on a copy of the dense network; the copy keeps the weights that it trained."""
    settings = job.settings
    torch.manual_seed(settings.training.seed)
    gated = copied(job.model)
    context = Context(
        model=gated,
        traced=job.traced,
        train=job.train,
        predictor=predictor,
        target_ms=aim_ms,
        training=settings.training,
        progress=job.progress,
        evaluate=job.evaluate,
        journal=job.journal,
        shared_journal=job.shared_journal,
    )
    with job.watch("prune"):
        selection = settings.method.run(context)
    for note in selection.notes:
        job.warn(note)
    return gated, selection
