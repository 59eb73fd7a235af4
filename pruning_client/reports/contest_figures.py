"""Figures of a contest of methods."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from pruning_client.reports.contest_schema import Contest, Standing
from pruning_client.reports.figures import GREY, empty_figure, marker_of


def accuracy_against_time(contest: Contest) -> go.Figure:
    """Mean accuracy against the time that each method took, with a Pareto front for each budget.

    The time is that of choosing the channels, of fine-tuning and of evaluation, without
    measurements.
    """
    figure = empty_figure(height=460)
    rows = [row for row in contest.standings if row.accuracy is not None]
    for budget in contest.budgets:
        _add_front(figure, [row for row in rows if row.budget == budget])
    for index, method in enumerate(sorted(contest.methods)):
        _add_method(figure, [row for row in rows if row.method == method], index)
    figure.update_xaxes(title="time of the method without measurements, s", rangemode="tozero")
    figure.update_yaxes(title="accuracy, mean over the seeds, %")
    return figure


def _add_front(figure: go.Figure, rows: Sequence[Standing]) -> None:
    """The methods of one budget that no other one beats in both time and accuracy."""
    best: list[Standing] = []
    for row in sorted(rows, key=lambda row: (_seconds(row), -_accuracy(row))):
        if not best or _accuracy(row) > _accuracy(best[-1]):
            best.append(row)
    figure.add_scatter(
        x=[_seconds(row) for row in best],
        y=[_accuracy(row) for row in best],
        mode="lines",
        name="Pareto front",
        showlegend=False,
        line={"color": GREY, "shape": "hv", "dash": "dot"},
        hoverinfo="skip",
    )


def _add_method(figure: go.Figure, rows: Sequence[Standing], index: int) -> None:
    """One method at all budgets, with the colour and symbol of its index."""
    if not rows:
        return
    figure.add_scatter(
        x=[_seconds(row) for row in rows],
        y=[_accuracy(row) for row in rows],
        mode="markers",
        name=rows[0].method,
        marker=marker_of(index),
        error_y={"type": "data", "array": [row.accuracy_deviation or 0.0 for row in rows]},
        text=[f"budget {row.budget}" for row in rows],
        hovertemplate="%{text}<br>%{x:.0f} s, %{y:.2f} %",
    )


def _seconds(row: Standing) -> float:
    assert row.seconds is not None
    return row.seconds


def _accuracy(row: Standing) -> float:
    assert row.accuracy is not None
    return row.accuracy
