"""Figures of predictors: numbers in, a figure as JSON out."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, floor, log10
from typing import Any

from latency_service.core.thinning import thinned
from latency_service.dashboard.figures import (
    FigureJson,
    axis,
    band,
    figure,
    line,
    predicted,
)
from latency_service.dashboard.palette import SOFT
from latency_service.dashboard.predictors.views import CalibrationRow, Pair
from latency_service.predictors.schemas import LearningPoint

#: Half-widths of the bands around predicted = measured, with their darkness.
BANDS = ((0.10, 0.12), (0.05, 0.22))


def predicted_against_measured(pairs: Sequence[Pair]) -> FigureJson:
    """Held-out predictions over measurements, on equal log axes, with bands of 5 and 10 %."""
    low, high = latency_range(
        [ms for pair in pairs for ms in (pair.measured_ms, pair.predicted_ms)]
    )
    ends = [low, high]
    traces = [
        band(
            f"within ±{100 * share:.0f} %",
            ends,
            [ms / (1 + share) for ms in ends],
            [ms * (1 + share) for ms in ends],
            opacity=opacity,
        )
        for share, opacity in BANDS
    ]
    traces.append(identity(ends))
    traces.append(_pairs(pairs))
    shared = {**log_range(low, high), "constrain": "domain"}
    return figure(
        traces,
        height=440,
        xaxis=axis("Measured latency", "ms", log=True, **shared),
        yaxis=axis("Predicted latency", "ms", log=True, scaleanchor="x", **shared),
    )


def identity(ends: Sequence[float]) -> dict[str, Any]:
    """The line on which both are equal."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "predicted = measured",
        "x": list(ends),
        "y": list(ends),
        "line": {"color": SOFT, "dash": "dot", "width": 1},
        "hoverinfo": "skip",
    }


def latency_range(latencies: Sequence[float]) -> tuple[float, float]:
    """Ends of a log axis, ms, a little wider than the values."""
    return min(latencies) / 1.08, max(latencies) * 1.08


def log_range(low: float, high: float) -> dict[str, Any]:
    """Range of a log axis with ticks at 1, 2 and 5 of each decade, written out; a short axis has
    evenly spaced ones.
    """
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    ticks = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
    inside = [tick for tick in ticks if low <= tick <= high]
    if len(inside) < 3:
        inside = _even_ticks(low, high)
    return {
        "range": [log10(low), log10(high)],
        "tickmode": "array",
        "tickvals": inside,
        "ticktext": [f"{tick:.6g}" for tick in inside],
    }


def _even_ticks(low: float, high: float) -> list[float]:
    """Multiples of a round step."""
    wanted = (high - low) / 5
    power = 10.0 ** floor(log10(wanted))
    step = next(power * digit for digit in (1, 2, 5, 10) if power * digit >= wanted)
    return [step * k for k in range(ceil(low / step), floor(high / step) + 1)]


def errors_by_latency(pairs: Sequence[Pair]) -> FigureJson:
    """Signed error of each held-out prediction over its measured latency."""
    shown = thinned(pairs)
    low, high = latency_range([pair.measured_ms for pair in pairs])
    zero = line("no error", [low, high], [0, 0], showlegend=False, hoverinfo="skip")
    zero["line"] = {"color": SOFT, "dash": "dot", "width": 1}
    trace = predicted(
        f"held-out prediction (n = {len(pairs)})",
        [pair.measured_ms for pair in shown],
        [pair.error_percent for pair in shown],
        text=[_hover(pair) for pair in shown],
        hovertemplate="%{text}<extra></extra>",
    )
    return figure(
        [zero, trace],
        height=300,
        xaxis=axis("Measured latency", "ms", log=True, **log_range(low, high)),
        yaxis=axis("Error of the prediction", "%", zeroline=False),
        showlegend=False,
    )


def learning_curve(points: Sequence[LearningPoint], floor: float | None) -> FigureJson:
    """Held-out error over the number of architectures trained on, with the floor."""
    counts = [point.measurements for point in points]
    curve = line(
        "served model",
        counts,
        [point.mape for point in points],
        mode="lines+markers",
        marker={"symbol": "circle-open", "size": 8, "line": {"width": 1.5}},
    )
    traces = [curve]
    if floor is not None:
        name = f"repeatability floor, {floor:.2f} %"
        traces.append(line(name, [counts[0], counts[-1]], [floor, floor], series=1))
    return figure(
        traces,
        height=280,
        xaxis=axis("Architectures trained on", rangemode="tozero"),
        yaxis=axis("Mean absolute error, held out", "%", rangemode="tozero"),
    )


def calibration(rows: Sequence[CalibrationRow]) -> FigureJson:
    """Share inside the interval over the level asked for."""
    ends = [min(row.nominal for row in rows) - 3, 100.0]
    same = identity(ends)
    same["name"] = "as promised"
    found = predicted(
        f"observed, with 95 % interval (n = {rows[0].n})",
        [row.nominal for row in rows],
        [row.empirical.value for row in rows],
        error_y={
            "type": "data",
            "symmetric": False,
            "array": [row.empirical.upper - row.empirical.value for row in rows],
            "arrayminus": [row.empirical.value - row.empirical.lower for row in rows],
            "thickness": 1,
            "width": 0,
        },
    )
    return figure(
        [same, found],
        height=300,
        xaxis=axis("Level of the interval", "%", range=ends),
        yaxis=axis("Measurements inside", "%", rangemode="normal"),
    )


def _pairs(pairs: Sequence[Pair]) -> dict[str, Any]:
    shown = thinned(pairs)
    note = "" if len(shown) == len(pairs) else f", thinned to {len(shown)}"
    return predicted(
        f"held-out architecture (n = {len(pairs)}{note})",
        [pair.measured_ms for pair in shown],
        [pair.predicted_ms for pair in shown],
        text=[_hover(pair) for pair in shown],
        hovertemplate="%{text}<extra></extra>",
    )


def _hover(pair: Pair) -> str:
    return (
        f"measured {pair.measured_ms:.4g} ms<br>predicted {pair.predicted_ms:.4g} ms"
        f"<br>error {pair.error_percent:+.1f} %"
    )
