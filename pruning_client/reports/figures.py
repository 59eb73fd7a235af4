"""Figures of the report, in the colours of Okabe and Ito, which suit all kinds of colour vision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from latency_service.core.thinning import thinned
from pruning_client.reports.schema import Front, FrontPoint, Report, Verification

BLUE = "#0072B2"
VERMILION = "#D55E00"
GREEN = "#009E73"
ORANGE = "#E69F00"
GREY = "#8A8F98"
LIGHT = "#E3E6EA"
INK = "#1F2933"
_SERIES = (BLUE, VERMILION, GREEN, ORANGE, GREY, INK)
_SYMBOLS = ("circle", "diamond", "triangle-up", "star", "cross", "x", "pentagon")
_FONT = "Inter, 'Segoe UI', 'Helvetica Neue', Arial, sans-serif"
_GRID = "#EEF0F3"
#: Stage of a measured file, its name in the legend, colour, symbol and size in pixels.
_STAGES = (
    ("dense", "dense network", INK, "square", 10),
    ("structure", "pruned structure", ORANGE, "diamond", 10),
    ("delivered", "delivered file", VERMILION, "star", 14),
)


def predicted_against_measured(report: Report) -> go.Figure:
    """Predicted against measured latency of all architectures of the space and all files of the
    job.
    """
    files = [file for file in report.verifications if file.predicted_ms is not None]
    low, high = _latency_range(report, files)
    figure = empty_figure(height=480)
    figure.add_scatter(
        x=[low, high],
        y=[low, high],
        mode="lines",
        name="predicted = measured",
        line={"color": GREY, "dash": "dot"},
    )
    points = thinned(report.points)
    figure.add_scatter(
        x=[point.measured_ms for point in points],
        y=[point.predicted_ms for point in points],
        mode="markers",
        name=f"{len(report.points)} sampled architectures",
        marker={"color": BLUE, "size": 7, "opacity": 0.55},
        hovertemplate="measured %{x:.3f} ms<br>predicted %{y:.3f} ms",
    )
    for stage, label, colour, symbol, size in _STAGES:
        chosen = [file for file in files if file.stage == stage]
        if chosen:
            marker = {"color": colour, "size": size, "symbol": symbol}
            _add_files(figure, chosen, label, marker)
    figure.update_xaxes(title="measured latency, ms", range=[low, high])
    figure.update_yaxes(title="predicted latency, ms", range=[low, high])
    return figure


def _latency_range(report: Report, files: Sequence[Verification]) -> tuple[float, float]:
    """Range of both axes, ms, 5 % wider than the data."""
    latencies = [
        *(point.measured_ms for point in report.points),
        *(point.predicted_ms for point in report.points),
        *(file.latency_ms for file in files),
        *(file.predicted_ms or 0 for file in files),
    ]
    return 0.95 * min(latencies), 1.05 * max(latencies)


def _add_files(
    figure: go.Figure, files: Sequence[Verification], label: str, marker: dict[str, Any]
) -> None:
    figure.add_scatter(
        x=[file.latency_ms for file in files],
        y=[file.predicted_ms for file in files],
        mode="markers",
        name=label,
        marker=marker,
        error_x=_interval(files),
    )


def _interval(measured: Sequence[Verification] | Sequence[FrontPoint]) -> dict[str, Any]:
    """Error bars of measured latencies."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [one.upper_ms - one.latency_ms for one in measured],
        "arrayminus": [one.latency_ms - one.lower_ms for one in measured],
        "thickness": 1.2,
        "width": 3,
    }


def widths(report: Report) -> go.Figure:
    """Channels of each width group before and after, in the order of the network."""
    groups = list(reversed(report.widths))
    names = [group.name for group in groups]
    figure = _bars(len(groups), row_height=30, x_title="channels", y_title="width group")
    figure.add_bar(
        y=names,
        x=[group.before for group in groups],
        orientation="h",
        name="before",
        marker={"color": LIGHT},
        hovertemplate="%{y}: %{x} channels before<extra></extra>",
    )
    figure.add_bar(
        y=names,
        x=[group.after for group in groups],
        orientation="h",
        name="after",
        marker={"color": BLUE},
        width=0.5,
        text=[f"{group.after} of {group.before}" for group in groups],
        textposition=[
            "inside" if group.after > 0.35 * group.before else "outside" for group in groups
        ],
        insidetextanchor="end",
        textfont={"size": 12},
        constraintext="none",
        hovertemplate="%{y}: %{x} channels after<extra></extra>",
    )
    return figure


def layers(report: Report) -> go.Figure:
    """Milliseconds of each layer before and after, in the order of the network."""
    rows = list(reversed(report.layers))
    names = [row.name.removesuffix(".weight") for row in rows]
    figure = _bars(len(rows), row_height=24, x_title="latency, ms", y_title="layer")
    figure.add_bar(
        y=names,
        x=[row.before_ms for row in rows],
        orientation="h",
        name="dense",
        marker={"color": LIGHT},
        hovertemplate="%{y}: %{x:.4f} ms before<extra></extra>",
    )
    figure.add_bar(
        y=names,
        x=[row.after_ms for row in rows],
        orientation="h",
        name="pruned",
        marker={"color": BLUE},
        width=0.5,
        hovertemplate="%{y}: %{x:.4f} ms after<extra></extra>",
    )
    return figure


def _bars(rows: int, *, row_height: int, x_title: str, y_title: str) -> go.Figure:
    """An empty figure for two horizontal bars in each row, the second inside the first."""
    figure = empty_figure(height=110 + row_height * rows)
    figure.update_layout(barmode="overlay", bargap=0.25)
    figure.update_xaxes(title=x_title)
    figure.update_yaxes(title={"text": y_title, "standoff": 18}, showgrid=False, automargin=True)
    return figure


def trajectory(report: Report) -> go.Figure:
    """Loss, predicted latency and accuracy over all training steps of the job, with the budget and
    the dense network's accuracy.
    """
    entries, phases = _timeline(report.history)
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    _style(figure, height=640)
    _add_curves(figure, entries)
    _add_goals(figure, report)
    for start, end, name in phases:
        _add_phase(figure, start, end, name)
    figure.update_yaxes(title="loss (log)", type="log", dtick=1, row=1, col=1)
    figure.update_yaxes(title="predicted latency, ms", row=2, col=1, rangemode="tozero")
    figure.update_yaxes(title="accuracy, %", row=3, col=1)
    figure.update_xaxes(title="training step", row=3, col=1)
    return figure


def _add_curves(figure: go.Figure, entries: Sequence[dict[str, Any]]) -> None:
    for row, key, label, colour in (
        (1, "loss", "loss", BLUE),
        (2, "latency_ms", "predicted latency", BLUE),
        (3, "accuracy", "accuracy", GREEN),
    ):
        chosen = thinned([entry for entry in entries if key in entry])
        figure.add_scatter(
            x=[entry["at"] for entry in chosen],
            y=[entry[key] for entry in chosen],
            name=label,
            showlegend=False,
            mode="lines+markers" if key == "accuracy" else "lines",
            line={"color": colour, "width": 2},
            row=row,
            col=1,
        )


def _add_goals(figure: go.Figure, report: Report) -> None:
    """Lines at the budget and at the dense network's accuracy."""
    figure.add_hline(
        y=report.budget_ms,
        row=2,
        col=1,
        line={"color": VERMILION, "dash": "dash"},
        annotation_text=f"budget {report.budget_ms:.3f} ms",
        annotation_font_color=VERMILION,
    )
    figure.add_hline(
        y=report.dense.accuracy,
        row=3,
        col=1,
        line={"color": GREY, "dash": "dot"},
        annotation_text=f"dense {report.dense.accuracy:.1f} %",
        annotation_position="top right",
        annotation_font_color=GREY,
    )


def _add_phase(figure: go.Figure, start: int, end: int, name: str) -> None:
    """The name of a phase of training, and a line where it starts."""
    if start:
        figure.add_vline(x=start, line={"color": LIGHT, "width": 1.5})
    figure.add_annotation(
        x=(start + end) / 2,
        y=1.05,
        yref="paper",
        text=name,
        showarrow=False,
        font={"color": GREY, "size": 13},
    )


def front(found: Front) -> go.Figure:
    """Accuracy against measured latency of several runs, by method, with their Pareto front."""
    figure = empty_figure(height=460)
    best = [point for point in found.points if point.on_front]
    figure.add_scatter(
        x=[point.latency_ms for point in best],
        y=[point.accuracy for point in best],
        mode="lines",
        name="Pareto front",
        line={"color": GREY, "shape": "hv", "dash": "dot"},
        hoverinfo="skip",
    )
    for index, method in enumerate(sorted({point.method for point in found.points})):
        _add_runs(figure, [point for point in found.points if point.method == method], index)
    if found.dense_ms is not None:
        figure.add_scatter(
            x=[found.dense_ms],
            y=[found.dense_accuracy],
            mode="markers",
            name="dense network",
            marker={"color": INK, "size": 11, "symbol": "square"},
        )
    figure.update_xaxes(title="measured latency, ms")
    figure.update_yaxes(title="accuracy, %")
    return figure


def _add_runs(figure: go.Figure, points: Sequence[FrontPoint], index: int) -> None:
    """The runs of one method, with the colour and symbol of its index."""
    figure.add_scatter(
        x=[point.latency_ms for point in points],
        y=[point.accuracy for point in points],
        mode="markers",
        name=points[0].method,
        marker=marker_of(index),
        error_x=_interval(points),
        text=[f"budget {point.budget}" for point in points],
        hovertemplate="%{text}<br>%{x:.3f} ms, %{y:.2f} %",
    )


def marker_of(index: int) -> dict[str, Any]:
    """Colour and symbol of a series, for all its figures."""
    return {
        "color": _SERIES[index % len(_SERIES)],
        "size": 11,
        "symbol": _SYMBOLS[index % len(_SYMBOLS)],
    }


def _timeline(
    history: list[dict[str, Any]],
) -> tuple[list[dict[str, Any]], list[tuple[int, int, str]]]:
    """Entries with `at`, their step in the whole job, and start, end and name of each phase."""
    entries: list[dict[str, Any]] = []
    phases: list[tuple[int, int, str]] = []
    for entry in history:
        if not phases or phases[-1][2] != entry["phase"]:
            start = phases[-1][1] if phases else 0
            phases.append((start, start, entry["phase"]))
        start, _, name = phases[-1]
        phases[-1] = (start, start + entry["step"], name)
        entries.append({**entry, "at": start + entry["step"]})
    return entries, phases


def empty_figure(*, height: int) -> go.Figure:
    """A figure in the style of the report, without data."""
    figure = go.Figure()
    _style(figure, height=height)
    return figure


def _style(figure: go.Figure, *, height: int) -> None:
    figure.update_layout(
        template="none",
        height=height,
        margin={"l": 72, "r": 24, "t": 48, "b": 56},
        hovermode="closest",
        font={"family": _FONT, "size": 13, "color": INK},
        paper_bgcolor="white",
        plot_bgcolor="white",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "xanchor": "left"},
    )
    axis = {
        "gridcolor": _GRID,
        "linecolor": "#C9CED6",
        "zeroline": False,
        "ticks": "outside",
        "tickcolor": "#C9CED6",
        "title": {"standoff": 8, "font": {"size": 14}},
    }
    figure.update_xaxes(**axis)
    figure.update_yaxes(**axis)
