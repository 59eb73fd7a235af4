"""Several pruning runs beside each other: by measured latency and accuracy. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    place: str | None = Field(
        description="device and fingerprint: latencies of one target only are compared; None where "
        "the report does not state them"
    )
    short: str = Field(description="name and method, told apart by the budget")
    on_front: bool | None = Field(
        description="of the runs on its target; None without a measured result"
    )
    ratio: Interval | None = Field(
        description="latency relative to the baseline's; None on another target"
    )
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
    mixed: bool = Field(description="measured on different targets: a front for each")
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
        floor_percent: repeatability floor of the baseline's target.
    """
    rows = [row_of(run) for run in runs]
    base_run = baseline_of(runs, baseline)
    base = None if base_run is None else _Base(row=row_of(base_run), place=stated_target(base_run))
    is_on = _fronts(runs, rows)
    facts = facts_of(runs, rows)
    return ComparisonPage(
        runs=[
            _compared(row, stated_target(run), short, is_on.get(row.id), base, floor_percent)
            for run, row, short in zip(runs, rows, short_names(rows), strict=True)
        ],
        baseline=None if base is None else base.row.id,
        facts=[fact for fact in facts if shows_all or fact.differs],
        shows_all=shows_all,
        mixed=len({stated_target(run) for run in runs if run.summary}) > 1,
        missing=list(missing),
    )


def baseline_of(runs: Sequence[Run], wanted: str | None) -> Run | None:
    """The run that others are related to: the one wanted, or else the first with a result."""
    finished = [run for run in runs if row_of(run).latency_ms is not None]
    chosen = [run for run in finished if run.id == wanted]
    return next(iter([*chosen, *finished]), None)


def stated_target(run: Run) -> str | None:
    """The target that a run was measured on, as far as its report states it."""
    summary = RunSummary.model_validate(run.summary or {})
    if summary.device is None or summary.fingerprint is None:
        return None
    return f"{summary.device} {summary.fingerprint}"


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
        "state": row.state,
        "method": row.method,
        "search space": run.space_id[:12],
        "measured on": row.device,
        "fingerprint": summary.fingerprint and summary.fingerprint[:12],
        "runtime": None if report.runtime is None else runtime_text(report.runtime),
        "budget, ms": _number(row.budget_ms),
        "dense latency, ms": _number(row.dense_ms),
        "dense accuracy, %": _number(row.dense_accuracy),
        "parameters": _count(summary.pruned.parameters),
        "MACs": _count(summary.pruned.macs),
        "MACs of the dense network": _count(summary.dense.macs),
        "file, MiB": _mebibytes(summary.pruned.file_bytes),
        "measurements of files": report.readings,
        "seed": summary.seed,
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


@dataclass(frozen=True, kw_only=True)
class _Base:
    """The run that others are related to."""

    row: RunRow
    place: str | None


def _fronts(runs: Sequence[Run], rows: Sequence[RunRow]) -> dict[str, bool]:
    """Which of the finished runs no other on the same target dominates, by id."""
    by_place: dict[str, list[RunRow]] = {}
    for run, row in zip(runs, rows, strict=True):
        if row.latency_ms is not None and row.accuracy is not None:
            # a run whose target is not stated is compared with no other
            by_place.setdefault(stated_target(run) or row.id, []).append(row)
    found: dict[str, bool] = {}
    for alike in by_place.values():
        costs = [row.latency_ms or 0.0 for row in alike]
        is_on = front(costs, [row.accuracy or 0.0 for row in alike])
        found |= {row.id: on for row, on in zip(alike, is_on, strict=True)}
    return found


def _compared(
    row: RunRow,
    place: str | None,
    short: str,
    on_front: bool | None,
    base: _Base | None,
    floor: float | None,
) -> ComparedRun:
    change = None
    other = None if base is None or base.row.id == row.id else base.row
    if other is not None and row.accuracy is not None and other.accuracy is not None:
        change = row.accuracy - other.accuracy
    ratio, verdict = _related(row, place, base, floor)
    return ComparedRun(
        row=row,
        place=place,
        short=short,
        on_front=on_front,
        ratio=ratio,
        verdict=verdict,
        accuracy_change=change,
    )


def _related(
    row: RunRow, place: str | None, base: _Base | None, floor: float | None
) -> tuple[Interval | None, Verdict | None]:
    """Latency relative to the baseline's, and what to think of it."""
    own = interval_of(row)
    other = None if base is None or base.row.id == row.id else interval_of(base.row)
    if base is None or own is None or other is None:
        return None, None
    if place is None or base.place is None:
        return None, Verdict(word="not compared", reason="the target of one is not stated")
    if place != base.place:
        return None, Verdict(word="not compared", reason="measured on another target")
    ratio = ratio_interval(own, other)
    return ratio, verdict_of(ratio, floor)


def interval_of(row: RunRow) -> Interval | None:
    """Measured latency of a run with its interval, ms; None where it has none."""
    if row.latency_ms is None or row.lower_ms is None or row.upper_ms is None:
        return None
    return Interval(value=row.latency_ms, lower=row.lower_ms, upper=row.upper_ms)
