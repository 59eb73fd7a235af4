"""Figures of targets: the sawtooth of latency against width, and two targets beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from latency_service.core.thinning import thinned
from latency_service.dashboard.figures import FigureJson, axis, figure, measured, predicted
from latency_service.dashboard.palette import SOFT
from latency_service.dashboard.predictors.figures import identity, latency_range, log_range
from latency_service.dashboard.targets.agreement import Agreement, Compared
from latency_service.dashboard.targets.views import Sweep
from latency_service.lattices.schemas import LatticePoint


def sawtooth(sweep: Sweep) -> FigureJson:
    """Latency of one kind of layer over its width; the lattice marked."""
    path: dict[str, Any] = {
        "type": "scatter",
        "mode": "lines",
        "name": "in the order of the widths",
        "x": [point.width for point in sweep.points],
        "y": [point.latency_ms for point in sweep.points],
        "line": {"color": SOFT, "width": 1},
        "hoverinfo": "skip",
        "showlegend": False,
    }
    worthwhile = [point for point in sweep.points if not point.dominated]
    dominated = [point for point in sweep.points if point.dominated]
    traces = [
        path,
        _points(f"on the lattice (n = {len(worthwhile)})", worthwhile, series=0),
        _points(f"dominated: a wider width is faster (n = {len(dominated)})", dominated, series=1),
    ]
    return figure(
        traces,
        height=320,
        xaxis=axis("Width", "channels", dtick=16),
        yaxis=axis("Median latency", "ms", rangemode="tozero"),
        showlegend=True,
    )


def _points(name: str, points: Sequence[LatticePoint], *, series: int) -> dict[str, Any]:
    return measured(
        name,
        [point.width for point in points],
        [point.latency_ms for point in points],
        lower=[point.lower_ms for point in points],
        upper=[point.upper_ms for point in points],
        series=series,
        hovertemplate="%{x} channels: %{y:.4f} ms<extra></extra>",
    )


def beside(agreement: Agreement) -> FigureJson:
    """Each architecture's latency on one target over that on the other, on log axes."""
    pairs = agreement.compared
    low_a, high_a = latency_range([pair.first_ms for pair in pairs])
    low_b, high_b = latency_range([pair.second_ms for pair in pairs])
    shown: list[Compared] = thinned(pairs)
    kind = measured if agreement.kind == "measured" else predicted
    trace = kind(
        f"{agreement.kind} architecture (n = {len(pairs)})",
        [pair.first_ms for pair in shown],
        [pair.second_ms for pair in shown],
        text=[_hover(pair) for pair in shown],
        hovertemplate="%{text}<extra></extra>",
    )
    ends = [max(low_a, low_b), min(high_a, high_b)]
    traces = [trace]
    if ends[0] < ends[1]:
        same = identity(ends)
        same["name"] = "as fast on both"
        traces.insert(0, same)
    return figure(
        traces,
        height=420,
        xaxis=axis(f"On {agreement.first.device}", "ms", log=True, **log_range(low_a, high_a)),
        yaxis=axis(f"On {agreement.second.device}", "ms", log=True, **log_range(low_b, high_b)),
        showlegend=True,
    )


def _hover(pair: Compared) -> str:
    return (
        f"{pair.first_ms:.4g} ms, rank {pair.first_rank:g}<br>"
        f"{pair.second_ms:.4g} ms, rank {pair.second_rank:g}"
    )
