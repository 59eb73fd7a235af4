"""Several pruning jobs: the budgets of a front, and bisection for the fastest network."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from latency_service.core.client import Client
from pruning_client.errors import BudgetError, PruningError, UsageError
from pruning_client.execution.journal import FOLDER, SHARED, Journal
from pruning_client.execution.progress import Progress, silent
from pruning_client.graph.traced import Deploy
from pruning_client.latency.budget import budget_text, parse_budget
from pruning_client.methods.base import Method
from pruning_client.methods.w_gates import WGates
from pruning_client.pipeline import folders
from pruning_client.pipeline.artifacts import REPORT
from pruning_client.pipeline.compare import accuracy_drop, front_of, read_report, write_front
from pruning_client.pipeline.prepare import Prepared, analyse, prepare
from pruning_client.pipeline.prune import job_settings, run
from pruning_client.pipeline.quantisation_settings import Quantisation
from pruning_client.pipeline.settings import JobRequest
from pruning_client.pipeline.verify import Verify
from pruning_client.reports.schema import Front, Report
from pruning_client.service.campaign import Campaign
from pruning_client.service.connection import announce, connected
from pruning_client.service.target import TargetLike
from pruning_client.training.config import Training

#: Lowest trial of `fastest`, as a multiple of the lowest latency that the predictor knows.
_ABOVE_LOWEST = 1.03


class Cluster(Protocol):
    """Machines that run the jobs of a sweep."""

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
        """Prune for every budget, files under `folder_of`; returns the reasons of failed jobs.

        Args:
            resume: go on from the checkpoints of jobs that were stopped.
        """


def sweep(
    model: nn.Module,
    data: Any,
    *,
    budgets: Sequence[str | float],
    out_dir: Path | str,
    target: TargetLike | None = None,
    method: Method = WGates(),
    val_data: Any = None,
    training: Training | None = None,
    verify: Verify | None = None,
    campaign: Campaign | None = None,
    quantisation: Quantisation | None = None,
    deploy: Deploy | None = None,
    client: Client | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    cluster: Cluster | None = None,
) -> Front:
    """Prune for several budgets, and find the Pareto front of accuracy against measured latency.

    The jobs share the search space, the dense network's measurement and accuracy, and the
    predictor. Each writes its files to a folder of its own; the front goes to front.json and
    front.html. A budget that cannot be met is noted in `Front.failures`, and the others go on.
    Arguments that are not listed here are those of `prune`.

    Args:
        budgets: each as `prune` takes it.
        out_dir: folder of the front, with a folder for each budget.
        resume: take budgets whose report is there as they are, and continue the one that was
            stopped. In this process other options than before are refused.
        cluster: machines that run the jobs, such as a `RayCluster`; by default they run one after
            the other in this process.

    Raises:
        PruningError, ApiError: as `prune`, when it concerns all budgets.
    """
    settings = job_settings(target, method, training, verify, campaign, quantisation)
    request = JobRequest(
        model=model, data=data, val_data=val_data, settings=settings, deploy=deploy
    )
    return sweep_request(
        request,
        budgets,
        out_dir=out_dir,
        client=client,
        resume=resume,
        progress=progress,
        cluster=cluster,
    )


def fastest(
    model: nn.Module,
    data: Any,
    *,
    max_accuracy_drop: float,
    out_dir: Path | str,
    trials: int = 5,
    target: TargetLike | None = None,
    method: Method = WGates(),
    val_data: Any = None,
    training: Training | None = None,
    verify: Verify | None = None,
    campaign: Campaign | None = None,
    quantisation: Quantisation | None = None,
    deploy: Deploy | None = None,
    client: Client | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Front:
    """Find the fastest network that keeps the accuracy, by bisection over budgets.

    Every trial is a whole job, measured and fine-tuned. The files of the fastest network that keeps
    the accuracy are copied to `out_dir` itself; `Front.chosen` names it. Arguments that are not
    listed here are those of `prune`.

    Args:
        max_accuracy_drop: points of held-out accuracy that may be lost.
        trials: number of budgets to try.

    Raises:
        BudgetError: every network that was tried loses more.
    """
    settings = job_settings(target, method, training, verify, campaign, quantisation)
    request = JobRequest(
        model=model, data=data, val_data=val_data, settings=settings, deploy=deploy
    )
    return fastest_request(
        request,
        max_accuracy_drop=max_accuracy_drop,
        trials=trials,
        out_dir=out_dir,
        client=client,
        resume=resume,
        progress=progress,
    )


def sweep_request(
    request: JobRequest,
    budgets: Sequence[str | float],
    *,
    out_dir: Path | str,
    client: Client | None = None,
    resume: bool = False,
    progress: Progress | None = None,
    cluster: Cluster | None = None,
) -> Front:
    """Do what a request asks for several budgets; see `sweep`."""
    texts = _checked(budgets)
    with folders.held(Path(out_dir)) as out:
        if cluster is None:
            with _jobs(request, client, out, progress, resume) as jobs:
                for text in texts:
                    jobs.run(text)
                failures = jobs.failures
        else:
            with connected(client, announce) as service:
                failures = cluster.run(
                    request,
                    _open_budgets(texts, out, resume=resume),
                    service,
                    out,
                    resume=resume,
                    progress=progress or silent,
                )
        reports = [read_report(out / folder_of(text)) for text in texts if text not in failures]
        return write_front(front_of(reports, failures), out)


def fastest_request(
    request: JobRequest,
    *,
    max_accuracy_drop: float,
    out_dir: Path | str,
    trials: int = 5,
    client: Client | None = None,
    resume: bool = False,
    progress: Progress | None = None,
) -> Front:
    """Do what a request asks, with latency as the objective; see `fastest`."""
    with folders.held(Path(out_dir)) as out:
        with _jobs(request, client, out, progress, resume) as jobs:
            reports, kept = _bisect(jobs, trials, max_accuracy_drop)
        if not kept:
            raise BudgetError(
                f"Every one of the {trials} networks that were tried loses more than "
                f"{max_accuracy_drop:g} points.",
                "Allow a larger drop, more trials, or more epochs.",
            )
        best = min(kept, key=lambda report: report.pruned.latency_ms)
        for file in best.files.values():
            shutil.copyfile(out / folder_of(best.budget) / file, out / file)
        return write_front(front_of(reports, jobs.failures, chosen=best.run_id), out)


def folder_of(budget: str) -> str:
    """Name of a budget's folder: the text, with characters replaced that folders cannot have."""
    return "".join(c if c.isalnum() or c in ".-" else "_" for c in budget.replace("%", "pct"))


@dataclass(kw_only=True)
class _Jobs:
    """The jobs of a sweep in this process, one after the other."""

    request: JobRequest
    prepared: Prepared
    out: Path
    resume: bool
    #: reasons of the budgets that could not be met
    failures: dict[str, str] = field(default_factory=dict)

    def run(self, text: str) -> Report | None:
        """Prune for a budget; None when it cannot be met, or nothing is faster than dense."""
        folder = self.out / folder_of(text)
        if _open_budgets([text], self.out, resume=self.resume):
            try:
                self._prune(text, folder)
            except PruningError as error:
                self.failures[text] = error.message
                return None
        return read_report(folder)

    @property
    def lowest_share(self) -> float:
        """Lowest latency that the predictor knows, as a share of the dense network's."""
        pairs = zip(self.prepared.predictors, self.prepared.dense[-1], strict=True)
        return max(
            predictor.one_ms([choices[0] for choices in predictor.lattice]) / dense.latency_ms
            for predictor, dense in pairs
        )

    def _prune(self, text: str, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        journal = Journal(folder / FOLDER, resume=self.resume)
        shared = Journal(self.out / FOLDER / SHARED, resume=True)
        job = self.prepared.job.again(folder, journal, shared_journal=shared)
        run(replace(self.prepared, job=job), parse_budget(text), text, self.request.command(text))
        journal.close()


@contextlib.contextmanager
def _jobs(
    request: JobRequest,
    client: Client | None,
    out: Path,
    progress: Progress | None,
    resume: bool,
) -> Iterator[_Jobs]:
    train, held_out = request.batches()
    with connected(client, announce) as service:
        job = analyse(
            request,
            train,
            held_out,
            client=service,
            progress=progress or silent,
            folder=out,
            # it stays: budgets may be added to a sweep that has ended
            journal=Journal(out / FOLDER, resume=resume),
            budget=None,
        )
        yield _Jobs(request=request, prepared=prepare(job, None), out=out, resume=resume)


def _open_budgets(texts: Sequence[str], out: Path, *, resume: bool) -> list[str]:
    """Budgets whose report is not there yet, or all of them."""
    return [text for text in texts if not (resume and (out / folder_of(text) / REPORT).exists())]


def _checked(budgets: Sequence[str | float]) -> list[str]:
    if not budgets:
        raise UsageError(
            "There is no budget.", 'Give some with commas between them: "4ms,6ms,8ms".'
        )
    for budget in budgets:
        parse_budget(budget)
    return [budget_text(budget) for budget in budgets]


def _bisect(
    jobs: _Jobs, trials: int, max_accuracy_drop: float
) -> tuple[list[Report], list[Report]]:
    """Reports of all trials, and of those that keep the accuracy."""
    low = min(1.0, jobs.lowest_share * _ABOVE_LOWEST)
    high = 1.0
    reports: list[Report] = []
    kept: list[Report] = []
    for _ in range(trials):
        middle = (low + high) / 2
        report = jobs.run(f"{100 * middle:.2f}%")
        if report is not None:
            reports.append(report)
        if report is not None and report.met and accuracy_drop(report) <= max_accuracy_drop:
            kept.append(report)
            high = middle
        else:
            low = middle
    return reports, kept
