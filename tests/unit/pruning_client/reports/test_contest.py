"""Standings of a contest, and how page and terminal show them."""

from __future__ import annotations

import pytest
from rich.console import Console

from pruning_client.reports.contest_figures import accuracy_against_time
from pruning_client.reports.contest_schema import Contest
from pruning_client.reports.contest_terminal import print_contest
from pruning_client.reports.html import render_contest
from pruning_client.reports.published import published_of
from pruning_client.reports.schema import Outcome
from tests.support.contests import contest, entry, result
from tests.support.pages import Page


@pytest.fixture
def three() -> Contest:
    return contest(
        [
            entry("uniform", result(90.0)),
            entry("uniform", result(92.0, latency_ms=0.602, upper_ms=0.62), seed=1),
            entry("scop", result(95.0, selecting_seconds=200.0)),
            entry("scop", result(94.0, outcome="not met"), seed=1),
            entry("pfp", None, failure="needs <labels>"),
            entry("pfp", None, seed=1, failure="needs <labels>"),
        ]
    )


def test_standings_are_means_over_the_seeds_the_most_accurate_first(three: Contest) -> None:
    assert [row.method for row in three.standings] == ["scop", "uniform", "pfp"]
    row = three.standings[1]
    assert row.accuracy == pytest.approx(91.0)
    assert row.accuracy_deviation == pytest.approx(2**0.5)
    assert (row.lower_ms, row.upper_ms, row.seconds) == (0.59, 0.62, 60.0)
    assert three.standings[2].failures == ["seed 0: needs <labels>", "seed 1: needs <labels>"]


def test_the_best_method_keeps_the_budget_with_every_seed(three: Contest) -> None:
    assert three.best("60%") == "uniform"
    apart = [entry("uniform", result(90.0, is_equal=False)), entry("pfp", result(80.0))]
    assert contest(apart).best("60%") == "pfp"
    assert contest([entry("pfp", result(80.0, outcome="not decided"))]).best("60%") is None


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        (["met", "not met"], "not met"),
        (["met", "not decided"], "not decided"),
        (["not met", "not decided"], "not met"),
        (["met", "met"], "met"),
    ],
)
def test_the_outcome_is_that_of_the_worst_budget(
    outcomes: list[Outcome], expected: Outcome
) -> None:
    entries = [
        entry("l1", result(90.0, outcome=outcome), budget=f"{k}%")
        for k, outcome in enumerate(outcomes)
    ]
    # one method that keeps a budget is enough
    worse = [entry("l2", result(95.0, outcome="not met"), budget=f"{k}%") for k in range(2)]
    assert contest([*entries, *worse]).outcome == expected


def test_a_budget_that_no_method_reaches_is_not_met() -> None:
    assert contest([entry("l1", None, failure="out of reach")]).outcome == "not met"


def test_the_page_has_the_table_and_both_figures(three: Contest) -> None:
    html = render_contest(three)
    page = Page()
    page.feed(html)
    assert page.loaded == []
    assert html.count("Plotly.newPlot") == 2
    text = " ".join(page.text.split())
    for expected in (
        "Net <b>: pruning methods at equal measured latency",
        "91.00 ± 1.41 %",
        "0.590 – 0.620",
        "within the budget: uniform",
        "2 of 2",
        "0 + 4",
        "needs <labels>",
        "60pct/seed-0/uniform",
        "All figures above are of this contest",
    ):
        assert expected in text


def test_published_figures_stand_apart_with_source_and_difference(three: Contest) -> None:
    page = Page()
    page.feed(render_contest(three))
    ours, papers = " ".join(page.text.split()).split("What the papers report")
    assert "92.22 to 90.75 %" in papers
    assert "92.22" not in ours
    for one in published_of(three.methods):
        assert one.source in papers
        assert one.differs in papers
    without = contest([entry("uniform", result(90.0))])
    assert "What the papers report" not in render_contest(without)


def test_time_is_drawn_with_one_front_for_each_budget() -> None:
    entries = [
        entry(method, result(accuracy, selecting_seconds=seconds), budget=budget)
        for budget in ("60%", "50%")
        for method, accuracy, seconds in (("l1", 90.0, 0.0), ("a", 89.0, 9.0), ("b", 95.0, 50.0))
    ]
    traces = accuracy_against_time(contest(entries)).to_dict()["data"]
    fronts = [trace for trace in traces if trace["name"] == "Pareto front"]
    assert [list(front["y"]) for front in fronts] == [[90.0, 95.0]] * 2
    assert [trace["name"] for trace in traces[2:]] == ["a", "b", "l1"]


def test_the_terminal_shows_rows_and_reasons(three: Contest) -> None:
    console = Console(width=132, record=True, force_terminal=False)
    print_contest(three, console)
    printed = console.export_text()
    for expected in ("91.00 ± 1.41", "best", "1 of 2", "failed", "pfp at 60%: seed 0: needs"):
        assert expected in printed
