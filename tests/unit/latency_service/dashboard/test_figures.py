"""Figures: plain JSON without numbers that JSON has not."""

from __future__ import annotations

import json

from latency_service.dashboard import figures


def test_a_figure_is_valid_json_whatever_its_numbers() -> None:
    made = figures.figure([figures.line("a", [1, 2], [float("nan"), float("inf")])])
    assert json.loads(json.dumps(made, allow_nan=False))["data"][0]["y"] == [None, None]


def test_measured_values_have_their_interval_around_them() -> None:
    trace = figures.measured("a", [0], [4.0], lower=[3.5], upper=[5.0])
    assert trace["error_y"]["array"] == [1.0]
    assert trace["error_y"]["arrayminus"] == [0.5]


def test_units_are_in_the_titles_of_axes() -> None:
    assert figures.axis("Latency", "ms", log=True)["title"]["text"] == "Latency, ms (log)"


def test_names_are_never_markup() -> None:
    trace = figures.measured(
        "<b>board</b>", ["<i>stem"], [1.0], hovertemplate="%{y}<extra></extra>"
    )
    made = figures.figure([trace], xaxis=figures.axis("On <a href=x>board"))
    (drawn,) = made["data"]
    assert (drawn["name"], drawn["x"]) == ("‹b>board‹/b>", ["‹i>stem"])
    assert drawn["hovertemplate"] == "%{y}<extra></extra>"
    assert made["layout"]["xaxis"]["title"]["text"] == "On ‹a href=x>board"
