"""Several pruning jobs at once: budgets of a front, bisection for the fastest network, finished
runs compared.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from latency_service.core.client import Client
from pruning_client.errors import BudgetError, InvalidInput, PruningError, UsageError
from pruning_client.execution.journal import FOLDER, Journal
from pruning_client.execution.progress import Progress, silent
from pruning_client.pipeline.artifacts import REPORT
from pruning_client.pipeline.budget import Budget, parse_budget, written
from pruning_client.pipeline.config import PruneConfig
from pruning_client.pipeline.prepare import Prepared, prepare
from pruning_client.pipeline.prune import check, device_names, run
from pruning_client.reports.html import render_front
from pruning_client.reports.schema import Front, FrontPoint, Report

FRONT = "front.json"
FRONT_PAGE = "front.html"
#: No trial goes this close to the lowest latency that the predictor knows, relative.
_ABOVE_LOWEST = 1.03


class Elsewhere(Protocol):
    """Runs jobs on other machines."""

    def run(self, budgets: Sequence[str], out: Path) -> dict[str, str]:
        """Prune for every budget, files under ``out/BUDGET``; returns the reasons of those that
        failed.
        """


def sweep(
    model: nn.Module,
    data: Any,
    *,
    budgets: Sequence[str | float],
    out_dir: Path | str,
    device: str | Sequence[str] | None = None,
    val_data: Any = None,
    client: Client | None = None,
    config: PruneConfig | None = None,
    progress: Progress | None = None,
    name: str | None = None,
    command: str | None = None,
    resume: bool = False,
    elsewhere: Elsewhere | None = None,
) -> Front:
    """Prune for several budgets, and find the Pareto front of accuracy against measured latency.

    The jobs share the search space, the dense network's measurement and accuracy, and the
    predictor. Each writes its files to a folder of its own; the front goes to front.json and
    front.html. A budget that cannot be had is noted in `Front.failures`, and the others go on.

    Args:
        elsewhere: where the jobs run; one after the other in this process by default.
        resume: budgets whose report is there are taken as they are.

    Raises:
        PruningError, ApiError: as `prune`, when it concerns all budgets.
    """
    if not budgets:
        raise UsageError(
            "There is no budget.", 'Give some with commas between them: "4ms,6ms,8ms".'
        )
    parsed = [parse_budget(budget) for budget in budgets]
    wanted = dict(zip(map(written, budgets), parsed, strict=True))
    folder = Path(out_dir)
    with _Shared(model, data, val_data, client, config, progress, folder, device, name) as prepared:
        failures = _all(prepared, wanted, folder, command, resume) if elsewhere is None else {}
    if elsewhere is not None:
        failures = elsewhere.run(list(wanted), folder)
    reports = [_read(folder / folder_of(text)) for text in wanted if text not in failures]
    return _written(reports, failures, folder)


def fastest(
    model: nn.Module,
    data: Any,
    *,
    max_accuracy_drop: float,
    out_dir: Path | str,
    trials: int = 5,
    device: str | Sequence[str] | None = None,
    val_data: Any = None,
    client: Client | None = None,
    config: PruneConfig | None = None,
    progress: Progress | None = None,
    name: str | None = None,
    command: str | None = None,
    resume: bool = False,
) -> Front:
    """The fastest network that loses at most so many points of accuracy: bisection over budgets.

    Every trial is a whole job, measured and fine-tuned. The files of the fastest that keeps the
    accuracy are copied to `out_dir` itself; `Front.chosen` names it.

    Raises:
        BudgetError: every network that was tried loses more.
    """
    folder = Path(out_dir)
    with _Shared(model, data, val_data, client, config, progress, folder, device, name) as prepared:
        low = max(
            predictor.one_ms([choices[0] for choices in predictor.lattice]) / dense.latency_ms
            for predictor, dense in zip(prepared.predictors, prepared.dense, strict=True)
        )
        low = min(1.0, low * _ABOVE_LOWEST)
        high = 1.0
        reports: list[Report] = []
        failures: dict[str, str] = {}
        for _ in range(trials):
            text = f"{100 * (low + high) / 2:.2f}%"
            failed = _all(prepared, {text: parse_budget(text)}, folder, command, resume)
            failures |= failed
            report = None if failed else _read(folder / folder_of(text))
            if report is not None:
                reports.append(report)
            if report is not None and report.met and _lost(report) <= max_accuracy_drop:
                high = (low + high) / 2
            else:
                low = (low + high) / 2
    kept = [report for report in reports if report.met and _lost(report) <= max_accuracy_drop]
    if not kept:
        raise BudgetError(
            f"Every one of the {trials} networks that were tried loses more than "
            f"{max_accuracy_drop:g} points.",
            "Allow a larger drop, more trials, or more epochs.",
        )
    best = min(kept, key=lambda report: report.pruned.latency_ms)
    for file in best.files.values():
        shutil.copyfile(folder / folder_of(best.budget) / file, folder / file)
    return _written(reports, failures, folder, chosen=best.run_id)


def compare(runs: Sequence[str], client: Client) -> Front:
    """Finished runs side by side: folders with a report.json, or ids of runs of the service.

    Raises:
        InvalidInput: a folder holds no report.
        ApiError: the service knows no such run.
    """
    return front_of(
        [_read(Path(run)) if Path(run).is_dir() else _recorded(run, client) for run in runs], {}
    )


def front_of(
    reports: Sequence[Report], failures: dict[str, str], chosen: str | None = None
) -> Front:
    """Reports as a front: a point is on it when no other is both faster and at least as
    accurate.
    """
    points = [_point(report) for report in reports]
    for point in points:
        point.on_front = not any(_dominates(other, point) for other in points)
    points.sort(key=lambda point: point.latency_ms)
    dense = [(r.dense.latency_ms, r.dense.accuracy) for r in reports]
    alike = bool(dense) and all(
        r.space_id == reports[0].space_id and r.device == reports[0].device for r in reports
    )
    return Front(
        points=points,
        failures=failures,
        chosen=chosen,
        dense_ms=dense[0][0] if alike else None,
        dense_accuracy=dense[0][1] if alike else None,
    )


class _Shared:
    """What all jobs of a sweep share, and a client that is closed in the end if it is ours."""

    def __init__(
        self,
        model: nn.Module,
        data: Any,
        val_data: Any,
        client: Client | None,
        config: PruneConfig | None,
        progress: Progress | None,
        folder: Path,
        device: str | Sequence[str] | None,
        name: str | None,
    ) -> None:
        settings = config or PruneConfig()
        train, held_out = check(model, data, val_data, settings)
        self._owned = None if client is not None else Client()
        self._make: Callable[[Client], Prepared] = lambda opened: prepare(
            model,
            train,
            held_out,
            client=opened,
            devices=device_names(device),
            settings=settings,
            progress=progress or silent,
            folder=folder,
            journal=Journal(),
            name=name,
            budget=None,
        )
        self._client = client or self._owned
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Prepared:
        assert self._client is not None
        try:
            return self._make(self._client)
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        if self._owned is not None:
            self._owned.close()


def _all(
    prepared: Prepared, budgets: dict[str, Budget], out: Path, command: str | None, resume: bool
) -> dict[str, str]:
    """Run one job after the other; the reasons of those that failed."""
    failures: dict[str, str] = {}
    for text, budget in budgets.items():
        folder = out / folder_of(text)
        if resume and (folder / REPORT).exists():
            continue
        folder.mkdir(parents=True, exist_ok=True)
        journal = Journal(folder / FOLDER, resume=resume)
        try:
            run(
                replace(prepared, job=prepared.job.again(folder, journal)),
                budget,
                text,
                command or "sweep",
            )
        except PruningError as error:
            failures[text] = error.message
        journal.close()
    return failures


def _written(
    reports: list[Report], failures: dict[str, str], folder: Path, chosen: str | None = None
) -> Front:
    front = front_of(reports, failures, chosen)
    (folder / FRONT).write_text(front.model_dump_json(indent=2) + "\n")
    (folder / FRONT_PAGE).write_text(render_front(front))
    return front


def folder_of(budget: str) -> str:
    """The name of a budget's folder: what the user wrote, without what folders cannot be called."""
    return "".join(c if c.isalnum() or c in ".-" else "_" for c in budget.replace("%", "pct"))


def _read(folder: Path) -> Report:
    try:
        return Report.model_validate_json((folder / REPORT).read_text())
    except (OSError, ValueError) as error:
        cause = " ".join(str(error).split())[:200]
        raise InvalidInput(
            f"{folder} holds no report: {cause}.", "Give the folder of a finished run."
        ) from error


def _recorded(run_id: str, client: Client) -> Report:
    try:
        return Report.model_validate(client.run(run_id).report)
    except ValueError as error:
        cause = json.dumps(str(error))[:200]
        raise InvalidInput(
            f"The run {run_id} holds no report of this version: {cause}.", "Run it again."
        ) from error


def _lost(report: Report) -> float:
    return report.dense.accuracy - report.pruned.accuracy


def _point(report: Report) -> FrontPoint:
    return FrontPoint(
        name=report.name,
        method=report.method,
        allocator=report.config["method"].get("allocator"),
        device=report.device,
        budget=report.budget,
        budget_ms=report.budget_ms,
        met=report.met,
        over_percent=report.over_percent,
        latency_ms=report.pruned.latency_ms,
        lower_ms=report.pruned.lower_ms,
        upper_ms=report.pruned.upper_ms,
        accuracy=report.pruned.accuracy,
        accuracy_drop=_lost(report),
        speed_up=report.dense.latency_ms / report.pruned.latency_ms,
        mac_reduction=report.dense.macs / max(1, report.pruned.macs),
        seed=report.seed,
        run_id=report.run_id,
        command=report.command,
    )


def _dominates(other: FrontPoint, point: FrontPoint) -> bool:
    no_worse = other.latency_ms <= point.latency_ms and other.accuracy >= point.accuracy
    return no_worse and (other.latency_ms < point.latency_ms or other.accuracy > point.accuracy)
