"""Figures of pruning runs: numbers in, a figure as JSON out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from latency_service.core.thinning import MAX_POINTS, thinned
from latency_service.dashboard.figures import (
    FigureJson,
    axis,
    figure,
    line,
    measured,
    monospace,
    predicted,
)
from latency_service.dashboard.palette import BLUE, GREEN, LINE, SOFT, VERMILLION
from latency_service.dashboard.runs.views import GroupChange, LayerTime, Phase, RunPage, Verified

#: Stages of measured files: name in the legend and series.
_STAGES = (("dense", "dense network", 2), ("structure", "pruned, not fine-tuned", 1))
#: Most columns of squares: more would lie on each other.
MOST_COLUMNS = 80
_DELIVERED = ("delivered", "delivered file", 0)


def trajectory(view: RunPage) -> FigureJson:
    """Loss, predicted latency with the budget, and accuracy over all steps of training."""
    traces = [
        _curve(view, "loss", "loss", "y", BLUE),
        _curve(view, "latency_ms", "predicted latency", "y2", BLUE),
        _curve(view, "accuracy", "accuracy on held-out data", "y3", GREEN, mode="lines+markers"),
    ]
    shapes = [_level(view.summary.budget_ms, "y2", VERMILLION, "dash")]
    notes = [_note(view.summary.budget_ms, "y2", f"budget {view.summary.budget_ms:.4g} ms")]
    if view.summary.dense_accuracy is not None:
        shapes.append(_level(view.summary.dense_accuracy, "y3", SOFT, "dot"))
        notes.append(_note(view.summary.dense_accuracy, "y3", "dense"))
    shapes += [_start(phase) for phase in view.phases[1:]]
    notes += [_name(phase) for phase in view.phases]
    return figure(
        traces,
        height=640,
        showlegend=False,
        margin={"l": 72, "r": 16, "t": 34, "b": 52},
        xaxis=axis("Training step", anchor="y3"),
        yaxis=axis("Loss", log=True, domain=[0.7, 1.0]) | {"dtick": 1},
        yaxis2=axis("Predicted latency", "ms", domain=[0.36, 0.64]),
        yaxis3=axis("Accuracy", "%", domain=[0.0, 0.3]),
        shapes=shapes,
        annotations=notes,
    )


def widths_over_time(view: RunPage) -> FigureJson:
    """Share of each group's channels that is open, over the steps of training: one row of squares
    for each group. (A heat map or colour bar of plotly's needs inline styles, which pages do not
    allow.)
    """
    steps = [step for step in view.steps if step.widths is not None]
    shown = thinned(steps, max(2, min(MOST_COLUMNS, MAX_POINTS // max(1, len(view.groups)))))
    squares = [
        (step.at, name, 100 * width / full)
        for step in shown
        for name, full, width in zip(view.groups, view.full_widths, step.widths or [], strict=False)
    ]
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers",
        "name": "channels kept",
        "x": [square[0] for square in squares],
        "y": [square[1] for square in squares],
        "marker": {
            "symbol": "square",
            "size": 13,
            "color": [square[2] for square in squares],
            "cmin": 0,
            "cmax": 100,
            "colorscale": "Viridis",
            "showscale": False,
        },
        "hovertemplate": "step %{x}, %{y}: %{marker.color:.0f} % of the channels<extra></extra>",
    }
    return figure(
        [trace],
        height=_rows_height(len(view.groups)),
        showlegend=False,
        xaxis=axis("Training step"),
        yaxis=axis(
            "",
            type="category",
            categoryorder="array",
            categoryarray=list(reversed(view.groups)),
            tickfont=monospace(11),
        ),
    )


def verifications(rows: Sequence[Verified], budget_ms: float) -> FigureJson:
    """Each measurement with its interval, the prediction beside it, and the budget."""
    stages = [*_STAGES, _DELIVERED]
    traces = [
        _readings(name, [row for row in rows if row.stage == stage], series)
        for stage, name, series in stages
        if any(row.stage == stage for row in rows)
    ]
    said = [row for row in rows if row.predicted_ms is not None]
    if said:
        traces.append(
            predicted(
                "predicted",
                [row.number for row in said],
                [row.predicted_ms or 0.0 for row in said],
                series=3,
            )
        )
    return figure(
        traces,
        height=360,
        showlegend=True,
        xaxis=axis("Measurement, in their order", dtick=1 if len(rows) <= 24 else None),
        yaxis=axis("Median latency", "ms"),
        shapes=[_level(budget_ms, "y", VERMILLION, "dash")],
        annotations=[_note(budget_ms, "y", f"budget {budget_ms:.4g} ms")],
    )


def widths(changes: Sequence[GroupChange]) -> FigureJson:
    """Channels of each group before and after."""
    return _bars(
        [change.name for change in changes],
        ("before", [change.before for change in changes]),
        ("after", [change.after for change in changes]),
        "Channels",
        "",
    )


def layers(rows: Sequence[LayerTime]) -> FigureJson:
    """Latency of each layer before and after."""
    return _bars(
        [row.name.removesuffix(".weight") for row in rows],
        ("dense network", [row.before_ms for row in rows]),
        ("delivered file", [row.after_ms for row in rows]),
        "Latency of the layer",
        "ms",
    )


def _curve(
    view: RunPage, field: str, name: str, place: str, color: str, mode: str = "lines"
) -> dict[str, Any]:
    steps = [step for step in view.steps if getattr(step, field) is not None]
    values = [getattr(step, field) for step in steps]
    trace = line(name, [step.at for step in steps], values, mode=mode, yaxis=place)
    trace["line"] = {"color": color, "width": 1.8}
    return trace


def _readings(name: str, rows: Sequence[Verified], series: int) -> dict[str, Any]:
    return measured(
        f"{name} (n = {len(rows)})",
        [row.number for row in rows],
        [row.latency_ms for row in rows],
        lower=[row.lower_ms for row in rows],
        upper=[row.upper_ms for row in rows],
        series=series,
    )


def _bars(
    names: Sequence[str],
    before: tuple[str, Sequence[float]],
    after: tuple[str, Sequence[float]],
    title: str,
    unit: str,
) -> FigureJson:
    """Two bars in each row, the second inside the first, in the order of the network."""
    outer = _bar(names, before, LINE, 0.8)
    inner = _bar(names, after, BLUE, 0.45)
    return figure(
        [outer, inner],
        height=_rows_height(len(names)),
        barmode="overlay",
        xaxis=axis(title, unit, rangemode="tozero"),
        yaxis=axis("", autorange="reversed", tickfont=monospace(11)),
    )


def _bar(
    names: Sequence[str], series: tuple[str, Sequence[float]], color: str, width: float
) -> dict[str, Any]:
    return {
        "type": "bar",
        "orientation": "h",
        "name": series[0],
        "y": list(names),
        "x": list(series[1]),
        "width": width,
        "marker": {"color": color},
        "hovertemplate": "%{y}: %{x:.4g}<extra>" + series[0] + "</extra>",
    }


def _rows_height(rows: int) -> int:
    return min(720, 110 + 22 * max(rows, 2))


def _level(value: float, place: str, color: str, dash: str) -> dict[str, Any]:
    return {
        "type": "line",
        "xref": "paper",
        "x0": 0,
        "x1": 1,
        "yref": place,
        "y0": value,
        "y1": value,
        "line": {"color": color, "dash": dash, "width": 1.2},
    }


def _note(value: float, place: str, text: str) -> dict[str, Any]:
    return {
        "xref": "paper",
        "x": 1,
        "xanchor": "right",
        "yref": place,
        "y": value,
        "yanchor": "bottom",
        "text": text,
        "showarrow": False,
        "font": {"color": SOFT, "size": 12},
    }


def _start(phase: Phase) -> dict[str, Any]:
    return {
        "type": "line",
        "x0": phase.start,
        "x1": phase.start,
        "yref": "paper",
        "y0": 0,
        "y1": 1,
        "line": {"color": LINE, "width": 1},
    }


def _name(phase: Phase) -> dict[str, Any]:
    return {
        "x": (phase.start + phase.end) / 2,
        "yref": "paper",
        "y": 1.0,
        "yanchor": "bottom",
        "text": phase.name,
        "showarrow": False,
        "font": {"color": SOFT, "size": 12},
    }
