"""The report's figures. Colours are Okabe and Ito's, which stay apart for every kind of colour
vision.
"""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from pruning_client.reports.schema import Front, Report

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


def predicted_against_measured(report: Report) -> go.Figure:
    """Every measured architecture of the space, the identity, and the files of this job."""
    figure = _figure(height=480)
    x = [p.measured_ms for p in report.points]
    y = [p.predicted_ms for p in report.points]
    files = [v for v in report.verifications if v.predicted_ms is not None]
    every = [*x, *y, *(v.latency_ms for v in files), *(v.predicted_ms or 0 for v in files)]
    low = 0.95 * min(every)
    high = 1.05 * max(every)
    figure.add_scatter(
        x=[low, high],
        y=[low, high],
        mode="lines",
        name="predicted = measured",
        line={"color": GREY, "dash": "dot"},
    )
    figure.add_scatter(
        x=x,
        y=y,
        mode="markers",
        name=f"{len(x)} sampled architectures",
        marker={"color": BLUE, "size": 7, "opacity": 0.55},
        hovertemplate="measured %{x:.3f} ms<br>predicted %{y:.3f} ms",
    )
    for stage, label, colour, symbol in (
        ("dense", "dense network", INK, "square"),
        ("structure", "pruned structure", ORANGE, "diamond"),
        ("delivered", "delivered file", VERMILION, "star"),
    ):
        chosen = [v for v in files if v.stage == stage]
        if chosen:
            figure.add_scatter(
                x=[v.latency_ms for v in chosen],
                y=[v.predicted_ms for v in chosen],
                mode="markers",
                name=label,
                marker={
                    "color": colour,
                    "size": 14 if stage == "delivered" else 10,
                    "symbol": symbol,
                },
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [v.upper_ms - v.latency_ms for v in chosen],
                    "arrayminus": [v.latency_ms - v.lower_ms for v in chosen],
                    "thickness": 1.2,
                    "width": 3,
                },
            )
    figure.update_xaxes(title="measured latency, ms", range=[low, high])
    figure.update_yaxes(title="predicted latency, ms", range=[low, high])
    return figure


def widths(report: Report) -> go.Figure:
    """Channels of each width group before and after, in the order of the network."""
    groups = list(reversed(report.widths))
    names = [group.name for group in groups]
    figure = _figure(height=110 + 30 * len(groups))
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
    figure.update_layout(barmode="overlay", bargap=0.25)
    figure.update_xaxes(title="channels")
    figure.update_yaxes(
        title={"text": "width group", "standoff": 18}, showgrid=False, automargin=True
    )
    return figure


def layers(report: Report) -> go.Figure:
    """Milliseconds of each layer before and after, in the order of the network."""
    rows = list(reversed(report.layers))
    names = [row.name.removesuffix(".weight") for row in rows]
    figure = _figure(height=110 + 24 * len(rows))
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
    figure.update_layout(barmode="overlay", bargap=0.25)
    figure.update_xaxes(title="latency, ms")
    figure.update_yaxes(title={"text": "layer", "standoff": 18}, showgrid=False, automargin=True)
    return figure


def trajectory(report: Report) -> go.Figure:
    """Loss, predicted latency against the budget, and accuracy, over all training steps of
    the job.
    """
    entries, ends = _timeline(report.history)
    figure = make_subplots(rows=3, cols=1, shared_xaxes=True, vertical_spacing=0.06)
    _style(figure, height=640)
    for row, key, label, colour in (
        (1, "loss", "loss", BLUE),
        (2, "latency_ms", "predicted latency", BLUE),
        (3, "accuracy", "accuracy", GREEN),
    ):
        chosen = [entry for entry in entries if key in entry]
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
    for start, end, phase in ends:
        if start:
            figure.add_vline(x=start, line={"color": LIGHT, "width": 1.5})
        figure.add_annotation(
            x=(start + end) / 2,
            y=1.05,
            yref="paper",
            text=phase,
            showarrow=False,
            font={"color": GREY, "size": 13},
        )
    figure.update_yaxes(title="loss (log)", type="log", dtick=1, row=1, col=1)
    figure.update_yaxes(title="predicted latency, ms", row=2, col=1, rangemode="tozero")
    figure.update_yaxes(title="accuracy, %", row=3, col=1)
    figure.update_xaxes(title="training step", row=3, col=1)
    return figure


def front(found: Front) -> go.Figure:
    """Accuracy against measured latency of several runs, by method; a line joins those that no
    other beats.
    """
    figure = _figure(height=460)
    best = [point for point in found.points if point.on_front]
    figure.add_scatter(
        x=[p.latency_ms for p in best],
        y=[p.accuracy for p in best],
        mode="lines",
        name="Pareto front",
        line={"color": GREY, "shape": "hv", "dash": "dot"},
        hoverinfo="skip",
    )
    for index, method in enumerate(sorted({point.method for point in found.points})):
        chosen = [point for point in found.points if point.method == method]
        figure.add_scatter(
            x=[p.latency_ms for p in chosen],
            y=[p.accuracy for p in chosen],
            mode="markers",
            name=method,
            marker={
                "color": _SERIES[index % len(_SERIES)],
                "size": 11,
                "symbol": _SYMBOLS[index % len(_SYMBOLS)],
            },
            error_x={
                "type": "data",
                "symmetric": False,
                "array": [p.upper_ms - p.latency_ms for p in chosen],
                "arrayminus": [p.latency_ms - p.lower_ms for p in chosen],
                "thickness": 1.2,
                "width": 3,
            },
            text=[f"budget {p.budget}" for p in chosen],
            hovertemplate="%{text}<br>%{x:.3f} ms, %{y:.2f} %",
        )
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


def _timeline(
    history: list[dict[str, Any]],
) -> tuple[list[dict[str, Any]], list[tuple[int, int, str]]]:
    """Entries with `at`, the step counted over all phases, and (start, end, name) of each phase."""
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


def _figure(*, height: int) -> go.Figure:
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
