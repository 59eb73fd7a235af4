"""Finished runs side by side: accuracy against measured latency, and the Pareto front of both."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from latency_service.core.client import Client
from latency_service.core.files import write_whole
from pruning_client.errors import InvalidInput
from pruning_client.pipeline.artifacts import REPORT
from pruning_client.reports.html import render_front
from pruning_client.reports.schema import Front, FrontPoint, Report

FRONT = "front.json"
FRONT_PAGE = "front.html"


def compare(runs: Sequence[str | Path], client: Client) -> Front:
    """Finished runs side by side: folders with a report.json, or ids of runs of the service.

    Raises:
        InvalidInput: a folder or a run holds no report.
        ApiError: the service knows no such run.
    """
    reports = [
        read_report(Path(run)) if Path(run).is_dir() else recorded_report(str(run), client)
        for run in runs
    ]
    return front_of(reports, {})


def front_of(
    reports: Sequence[Report], failures: Mapping[str, str], chosen: str | None = None
) -> Front:
    """Reports as a front: a point is on it when no other is both faster and at least as accurate.

    Args:
        failures: reasons of the budgets that could not be met, by budget.
        chosen: run id of the network that was looked for.
    """
    points = [_point(report) for report in reports]
    for point in points:
        point.on_front = not any(_dominates(other, point) for other in points)
    points.sort(key=lambda point: point.latency_ms)
    dense = reports[0].dense if reports and _share_dense(reports) else None
    return Front(
        points=points,
        failures=dict(failures),
        chosen=chosen,
        dense_ms=dense and dense.latency_ms,
        dense_accuracy=dense and dense.accuracy,
    )


def write_front(front: Front, folder: Path) -> Front:
    """Write front.json and front.html."""
    write_whole(folder / FRONT, (front.model_dump_json(indent=2) + "\n").encode(), mode=0o644)
    write_whole(folder / FRONT_PAGE, render_front(front).encode(), mode=0o644)
    return front


def read_report(folder: Path) -> Report:
    """The report in a folder.

    Raises:
        InvalidInput: there is none.
    """
    try:
        return Report.model_validate_json((folder / REPORT).read_text())
    except (OSError, ValueError) as error:
        cause = " ".join(str(error).split())[:200]
        raise InvalidInput(
            f"{folder} holds no report: {cause}.", "Give the folder of a finished run."
        ) from error


def accuracy_drop(report: Report) -> float:
    """Points of accuracy below the dense network."""
    return report.dense.accuracy - report.pruned.accuracy


def recorded_report(run_id: str, client: Client) -> Report:
    """The report of a run that the service keeps.

    Raises:
        InvalidInput: it has none of this version.
        ApiError: the service knows no such run.
    """
    try:
        return Report.model_validate(client.run(run_id).report)
    except ValueError as error:
        cause = json.dumps(str(error))[:200]
        raise InvalidInput(
            f"The run {run_id} holds no report of this version: {cause}.", "Run it again."
        ) from error


def _share_dense(reports: Sequence[Report]) -> bool:
    return len({(report.space_id, report.device) for report in reports}) == 1


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
        accuracy_drop=accuracy_drop(report),
        speed_up=report.dense.latency_ms / report.pruned.latency_ms,
        mac_reduction=report.dense.macs / max(1, report.pruned.macs),
        seed=report.seed,
        run_id=report.run_id,
        command=report.command,
    )


def _dominates(other: FrontPoint, point: FrontPoint) -> bool:
    if other.latency_ms > point.latency_ms or other.accuracy < point.accuracy:
        return False
    return other.latency_ms < point.latency_ms or other.accuracy > point.accuracy
