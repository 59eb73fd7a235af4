"""The page of several pruning runs beside each other."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Request
from sqlalchemy.orm import Session
from starlette.responses import Response

from latency_service.core.errors import BadRequest
from latency_service.dashboard import columns
from latency_service.dashboard.columns import Latency
from latency_service.dashboard.figures import FigureJson, axis, figure, line, measured
from latency_service.dashboard.pages import Pages, page
from latency_service.dashboard.palette import SERIES, SOFT
from latency_service.dashboard.runs.comparison import (
    MOST_RUNS,
    ComparedRun,
    ComparisonPage,
    baseline_of,
    compare,
    interval_of,
    stated_target,
)
from latency_service.dashboard.runs.views import RunRow
from latency_service.dashboard.tables import Column, Table
from latency_service.predictors import repository as predictors_repository
from latency_service.predictors.schemas import Sidecar
from latency_service.runs import repository
from latency_service.runs.models import Run
from latency_service.web.deps import ReadSession

pages = Pages()


@pages.page("/compare", name="compare")
def compare_runs(
    request: Request,
    session: ReadSession,
    run: Annotated[tuple[str, ...], Query()] = (),
    base: str | None = None,
    every: bool = False,
) -> Response:
    """Runs side by side, related to one of them, with their Pareto front."""
    ids = list(dict.fromkeys(run))
    if len(ids) > MOST_RUNS:
        raise BadRequest(
            f"{len(ids)} runs are too many to compare side by side.", f"Choose 2 to {MOST_RUNS}."
        )
    by_id = {row.id: row for row in repository.with_ids(session, ids)}
    found = [by_id[one] for one in ids if one in by_id]
    view = compare(
        found,
        base,
        _floor(session, found, base),
        shows_all=every,
        missing=[one for one in ids if one not in by_id],
    )
    has_front = any(one.on_front is not None for one in view.runs)
    return page(
        request,
        "compare.html",
        view,
        tables=[compared_table(view.runs)],
        figure_json=front_figure(view) if has_front else None,
        chosen=[one.row.id for one in view.runs],
    )


def front_figure(view: ComparisonPage) -> FigureJson:
    """Accuracy over measured latency; the front a step line, what it dominates faint."""
    measured_runs = [one for one in view.runs if one.on_front is not None]
    places = dict.fromkeys(one.place for one in measured_runs if one.place is not None)
    traces = [
        _front_line([one for one in measured_runs if one.place == place], view.mixed)
        for place in places
    ]
    traces += [_point(one, at) for at, one in enumerate(measured_runs)]
    traces += _dense(measured_runs)
    return figure(
        traces,
        height=440,
        showlegend=True,
        xaxis=axis("Measured latency", "ms"),
        yaxis=axis("Accuracy", "%"),
    )


def compared_table(rows: list[ComparedRun]) -> Table[ComparedRun]:
    return Table(
        caption="Runs, with their measured latency",
        columns=[
            Column(
                head="run",
                cell=lambda one: one.short,
                link=lambda one: ("run", {"run_id": one.row.id}),
            ),
            Column(head="id", cell=lambda one: one.row.id, kind="code"),
            Column(head="state", cell=lambda one: one.row.state, kind="state"),
            columns.latency(lambda one: _latency(one.row)),
            Column(
                head="of the baseline",
                unit="times",
                cell=lambda one: (
                    None
                    if one.ratio is None
                    else (one.ratio.value, one.ratio.lower, one.ratio.upper)
                ),
                kind="interval",
                meaning="Ratio of latencies with its 95 % interval",
            ),
            Column(
                head="verdict", cell=lambda one: None if one.verdict is None else one.verdict.word
            ),
            Column(
                head="accuracy",
                unit="%",
                cell=lambda one: one.row.accuracy,
                kind="number",
                digits=4,
            ),
            Column(
                head="against the baseline",
                unit="points",
                cell=lambda one: one.accuracy_change,
                kind="number",
                digits=2,
            ),
            Column(
                head="front",
                cell=lambda one: (
                    None
                    if one.on_front is None
                    else "on the front"
                    if one.on_front
                    else "dominated"
                ),
            ),
        ],
        rows=rows,
        empty="No run was chosen. Choose two to eight in the list of runs.",
    )


def _latency(row: RunRow) -> Latency | None:
    found = interval_of(row)
    return None if found is None else (found.value, found.lower, found.upper)


def _floor(session: Session, runs: list[Run], base: str | None) -> float | None:
    """Repeatability floor of the baseline's target, per cent: of the first predictor that knows
    one.
    """
    related = baseline_of(runs, base)
    if related is None:
        return None
    for run in [related, *(one for one in runs if stated_target(one) == stated_target(related))]:
        row = run.predictor_id and predictors_repository.predictor(session, run.predictor_id)
        if row:
            return Sidecar.model_validate(row.sidecar).repeat_difference
    return None


def _front_line(runs: list[ComparedRun], names_device: bool) -> dict[str, Any]:
    device = f" on {runs[0].row.device}" if names_device else ""
    best = sorted((one.row for one in runs if one.on_front), key=lambda row: row.latency_ms or 0.0)
    trace = line(
        f"Pareto front by measured latency{device}",
        [row.latency_ms for row in best],
        [row.accuracy for row in best],
    )
    trace["line"] = {"color": SOFT, "width": 1, "shape": "hv"}
    trace["hoverinfo"] = "skip"
    return trace


def _point(one: ComparedRun, at: int) -> dict[str, Any]:
    interval = interval_of(one.row)
    value = one.row.latency_ms or 0.0
    look = SERIES[at % len(SERIES)]
    bars = {
        "type": "data",
        "symmetric": False,
        "array": [0.0 if interval is None else interval.upper - value],
        "arrayminus": [0.0 if interval is None else value - interval.lower],
        "thickness": 1,
        "width": 0,
        "color": look.color,
    }
    name = one.short if one.on_front else f"{one.short} (dominated)"
    return measured(
        name,
        [value],
        [one.row.accuracy or 0.0],
        series=at % len(SERIES),
        error_x=bars,
        opacity=1.0 if one.on_front else 0.45,
        hovertemplate="%{x:.4g} ms, %{y:.2f} %<extra>%{fullData.name}</extra>",
    )


def _dense(runs: list[ComparedRun]) -> list[dict[str, Any]]:
    """The dense network, where all runs share it."""
    known = {(one.row.dense_ms, one.row.dense_accuracy) for one in runs}
    if len(known) != 1:
        return []
    latency_ms, accuracy = known.pop()
    if latency_ms is None or accuracy is None:
        return []
    trace = measured("dense network", [latency_ms], [accuracy])
    trace["marker"] = {"color": SOFT, "symbol": "square", "size": 8}
    return [trace]
