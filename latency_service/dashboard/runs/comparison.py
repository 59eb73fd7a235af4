"""Several pruning runs beside each other: by measured latency and accuracy. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, Field

from latency_service.dashboard.places import runtime_text
from latency_service.dashboard.runs.views import RunRow, row_of
from latency_service.dashboard.statistics import (
    Interval,
    Verdict,
    front,
    ratio_interval,
    verdict_of,
)
from latency_service.runs import reports
from latency_service.runs.models import Run
from latency_service.runs.schemas import RunSummary

#: Most runs side by side.
MOST_RUNS = 8


class ComparedRun(BaseModel):
    """One column."""

    row: RunRow
    short: str = Field(description="name and method, told apart by the budget")
    on_front: bool | None = Field(description="None without a measured result")
    ratio: Interval | None = Field(description="latency relative to the baseline's")
    verdict: Verdict | None
    accuracy_change: float | None = Field(description="against the baseline, points")


class FactRow(BaseModel):
    """One fact of every run, in their order."""

    name: str
    unit: str
    values: list[str]
    differs: bool


class ComparisonPage(BaseModel):
    """Runs and what tells them apart."""

    runs: list[ComparedRun]
    baseline: str | None = Field(description="id of the run that others are related to")
    facts: list[FactRow]
    shows_all: bool
    mixed: bool = Field(description="measured on different targets: not one front")
    missing: list[str] = Field(description="ids without a run")


def compare(
    runs: Sequence[Run],
    baseline: str | None,
    floor_percent: float | None,
    *,
    shows_all: bool,
    missing: Sequence[str],
) -> ComparisonPage:
    """Compare runs in the order given.

    Args:
        baseline: id of one of them; by default the first with a result.
        floor_percent: repeatability floor of the predictor of the first run.
    """
    rows = [row_of(run) for run in runs]
    finished = [row for row in rows if row.latency_ms is not None]
    base = next((row for row in finished if row.id == baseline), None)
    base = base or (finished[0] if finished else None)
    places = {(run.summary or {}).get("fingerprint") for run in runs if run.summary}
    is_on = _fronts(rows)
    facts = facts_of(runs, rows)
    return ComparisonPage(
        runs=[
            _compared(row, short, is_on.get(row.id), base, floor_percent)
            for row, short in zip(rows, short_names(rows), strict=True)
        ],
        baseline=None if base is None else base.id,
        facts=[fact for fact in facts if shows_all or fact.differs],
        shows_all=shows_all,
        mixed=len(places) > 1,
        missing=list(missing),
    )


def short_names(rows: Sequence[RunRow]) -> list[str]:
    """Names for columns and legends, unlike each other."""
    plain = [f"{row.name} · {row.method}" for row in rows]
    with_budget = [
        f"{name} · {row.budget_ms:.4g} ms" for name, row in zip(plain, rows, strict=True)
    ]
    chosen = plain if len(set(plain)) == len(plain) else with_budget
    counts: dict[str, int] = {}
    found = []
    for name in chosen:
        counts[name] = counts.get(name, 0) + 1
        found.append(name if counts[name] == 1 else f"{name} ({counts[name]})")
    return found


def facts_of(runs: Sequence[Run], rows: Sequence[RunRow]) -> list[FactRow]:
    """Settings and figures of the runs, one a row."""
    plain = [_facts(run, row) for run, row in zip(runs, rows, strict=True)]
    names = list(dict.fromkeys(name for facts in plain for name in facts))
    found = []
    for name in names:
        values = [facts.get(name, "–") for facts in plain]
        label, _, unit = name.partition(", ")
        differs = len(set(values)) > 1
        found.append(FactRow(name=label, unit=unit, values=values, differs=differs))
    return found


def _facts(run: Run, row: RunRow) -> dict[str, str]:
    report = reports.read(run.report)
    summary = RunSummary.model_validate(run.summary or {})
    facts: dict[str, Any] = {
        "State": row.state,
        "Method": row.method,
        "Search space": run.space_id[:12],
        "Measured on": row.device,
        "Runtime": None if report.runtime is None else runtime_text(report.runtime),
        "Budget, ms": _number(row.budget_ms),
        "Dense latency, ms": _number(row.dense_ms),
        "Dense accuracy, %": _number(row.dense_accuracy),
        "Parameters": _count(summary.pruned.parameters),
        "MACs": _count(summary.pruned.macs),
        "MACs of the dense network": _count(summary.dense.macs),
        "File, MiB": _mebibytes(summary.pruned.file_bytes),
        "Measurements of files": report.readings,
        "Seed": summary.seed,
        **report.settings,
        **{f"version of {name}": value for name, value in report.versions.items()},
    }
    return {name: str(value) for name, value in facts.items() if value is not None}


def _number(value: float | None) -> str | None:
    return None if value is None else f"{value:.4g}"


def _count(value: int | None) -> str | None:
    return None if value is None else f"{value:,}"


def _mebibytes(value: int | None) -> str | None:
    return None if value is None else f"{value / 2**20:.3g}"


def _fronts(rows: Sequence[RunRow]) -> dict[str, bool]:
    """Which of the finished runs no other dominates, by id."""
    found = [row for row in rows if row.latency_ms is not None and row.accuracy is not None]
    is_on = front([row.latency_ms or 0.0 for row in found], [row.accuracy or 0.0 for row in found])
    return {row.id: on for row, on in zip(found, is_on, strict=True)}


def _compared(
    row: RunRow, short: str, on_front: bool | None, base: RunRow | None, floor: float | None
) -> ComparedRun:
    own, other = interval_of(row), None if base is None else interval_of(base)
    is_base = base is not None and base.id == row.id
    ratio = None if own is None or other is None or is_base else ratio_interval(own, other)
    change = None
    if base is not None and not is_base and row.accuracy is not None and base.accuracy is not None:
        change = row.accuracy - base.accuracy
    return ComparedRun(
        row=row,
        short=short,
        on_front=on_front,
        ratio=ratio,
        verdict=None if ratio is None else verdict_of(ratio, floor),
        accuracy_change=change,
    )


def interval_of(row: RunRow) -> Interval | None:
    """Measured latency of a run with its interval, ms; None where it has none."""
    if row.latency_ms is None or row.lower_ms is None or row.upper_ms is None:
        return None
    return Interval(value=row.latency_ms, lower=row.lower_ms, upper=row.upper_ms)
