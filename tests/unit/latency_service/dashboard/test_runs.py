from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from latency_service.dashboard.runs import comparing, comparison, figures, views
from latency_service.runs import reports
from latency_service.runs.models import Run
from latency_service.runs.service import summary_of

NOW = datetime(2025, 6, 1, 12, 30, tzinfo=UTC)
SPACE = ("net", [{"name": "stem", "width": 16}, {"name": "block", "width": 32}])
HISTORY = [
    {"phase": "prune", "step": 5, "loss": 2.0, "latency_ms": 1.0, "widths": [16, 32]},
    {"phase": "prune", "step": 10, "loss": 1.0, "latency_ms": 0.6, "widths": [8, 16]},
    {"phase": "fine-tune", "step": 20, "loss": 0.5, "accuracy": 91.0},
]
VERIFICATIONS = [
    {
        "stage": "delivered",
        "widths": [8, 16],
        "predicted_ms": 0.55,
        "latency_ms": 0.5,
        "lower_ms": 0.49,
        "upper_ms": 0.51,
        "verdict": "ok",
        "measurement_id": "m1",
        "device": "board",
    }
]


def report(latency_ms: float = 0.5, accuracy: float = 90.0, **more: Any) -> dict[str, Any]:
    pruned = {
        "latency_ms": latency_ms,
        "lower_ms": 0.99 * latency_ms,
        "upper_ms": 1.01 * latency_ms,
        "accuracy": accuracy,
    }
    return {
        "outcome": "met",
        "device": "board",
        "fingerprint": "f" * 64,
        "dense": {"latency_ms": 1.0, "accuracy": 92.0},
        "pruned": pruned,
        "widths": [{"name": "stem", "before": 16, "after": 8, "members": []}],
        "layers": [{"name": "stem.weight", "before_ms": 0.4, "after_ms": 0.1}],
        "history": HISTORY,
        "verifications": VERIFICATIONS,
        **more,
    }


def run(number: int = 1, *, state: str = "done", **changes: Any) -> Run:
    found = changes.pop("report", report() if state == "done" else None)
    fields: dict[str, Any] = {
        "id": f"run-{number}",
        "name": "net",
        "method": "w-gates",
        "space_id": "s" * 64,
        "predictor_id": None,
        "budget_ms": 0.6,
        "state": state,
        "report": found,
        "summary": None if found is None else summary_of(found).model_dump(),
        "created_at": NOW,
        "updated_at": NOW,
    }
    return Run(**(fields | changes))


def page(of: Run, history: Any = (), now: datetime = NOW) -> views.RunPage:
    entries = reports.entries_of(list(history))
    files = reports.verifications_of(VERIFICATIONS)
    return views.page_of(of, SPACE, (entries, len(entries)), files, now)


def test_phases_follow_each_other_in_steps_of_the_whole_run() -> None:
    steps, phases = views.timeline(reports.entries_of(HISTORY))
    assert [step.at for step in steps] == [5, 10, 30]
    assert [(phase.name, phase.start, phase.end) for phase in phases] == [
        ("prune", 0, 10),
        ("fine-tune", 10, 30),
    ]


def test_a_finished_run_shows_its_outcome_and_a_running_one_its_phase() -> None:
    assert page(run()).summary.state == "met"
    going = page(run(state="running", phase="prune", dense_ms=1.0))
    assert (going.summary.state, going.summary.phase) == ("running", "prune")
    assert (going.summary.latency_ms, going.summary.dense_ms) == (None, 1.0)


def test_a_client_that_was_not_heard_of_for_minutes_is_silent() -> None:
    later = NOW + timedelta(seconds=views.SILENT_SECONDS + 1)
    assert page(run(state="running"), now=later).is_silent
    assert not page(run(state="running")).is_silent
    assert not page(run(), now=later).is_silent


def test_predictions_are_judged_by_the_measurement() -> None:
    (one,) = page(run()).verified
    assert one.error_percent == pytest.approx(10.0)
    assert one.of_budget_percent == pytest.approx(100 * 0.5 / 0.6)


def test_the_budget_is_drawn_where_latency_is_predicted() -> None:
    figure = figures.trajectory(page(run(), HISTORY))
    budget = figure["layout"]["shapes"][0]
    assert (budget["yref"], budget["y0"], budget["y1"]) == ("y2", 0.6, 0.6)
    latency = next(trace for trace in figure["data"] if trace["name"] == "predicted latency")
    assert (latency["x"], latency["y"]) == ([5, 10], [1.0, 0.6])


def test_widths_over_time_are_shares_of_full_width() -> None:
    (squares,) = figures.widths_over_time(page(run(), HISTORY))["data"]
    assert squares["x"] == [5, 5, 10, 10]
    assert squares["y"] == ["stem", "block"] * 2
    assert squares["marker"]["color"] == [100.0, 100.0, 50.0, 50.0]


def test_measured_files_are_filled_and_predictions_hollow() -> None:
    measured, predicted = figures.verifications(page(run()).verified, 0.6)["data"]
    assert measured["marker"]["symbol"] == "circle"
    assert measured["error_y"]["array"] == pytest.approx([0.01])
    assert predicted["marker"]["symbol"].endswith("-open")


def test_bars_begin_at_zero() -> None:
    for figure in (figures.widths(page(run()).changes), figures.layers(page(run()).layers)):
        assert figure["layout"]["xaxis"]["rangemode"] == "tozero"
        assert figure["layout"]["xaxis"].get("type") != "log"


def compared(*runs: Run, **more: Any) -> comparison.ComparisonPage:
    options: dict[str, Any] = {"shows_all": False, "missing": []}
    return comparison.compare(runs, more.pop("baseline", None), 2.0, **(options | more))


def test_what_another_run_beats_in_both_is_dominated() -> None:
    view = compared(
        run(1, report=report(0.5, 90.0)),
        run(2, report=report(0.6, 89.0)),
        run(3, report=report(0.4, 88.0)),
        run(4, state="running"),
    )
    assert [one.on_front for one in view.runs] == [True, False, True, None]


def test_ratios_are_relative_to_the_chosen_baseline() -> None:
    runs = (run(1, report=report(0.5)), run(2, report=report(0.4)))
    first, second = compared(*runs, baseline="run-2").runs
    assert second.ratio is None
    assert first.ratio is not None
    assert first.ratio.value == pytest.approx(1.25)
    assert first.verdict is not None
    assert first.verdict.word == "slower"


def test_a_difference_within_the_floor_is_no_difference() -> None:
    exact = report(0.495)
    exact["pruned"] |= {"lower_ms": 0.495, "upper_ms": 0.495}
    base = report(0.5)
    base["pruned"] |= {"lower_ms": 0.5, "upper_ms": 0.5}
    _, second = compared(run(1, report=base), run(2, report=exact)).runs
    assert second.verdict is not None
    assert second.verdict.word == "no difference seen"


def test_only_what_differs_is_shown_unless_asked() -> None:
    runs = (
        run(1, report=report(config={"method": {"epochs": 5}, "seed": 0})),
        run(2, report=report(config={"method": {"epochs": 9}, "seed": 0})),
    )
    assert [fact.name for fact in compared(*runs).facts] == ["method.epochs"]
    whole = [fact.name for fact in compared(*runs, shows_all=True).facts]
    assert {"method.epochs", "seed", "budget"} <= set(whole)


def test_runs_of_different_targets_have_fronts_of_their_own() -> None:
    view = compared(
        run(1, report=report(0.5, 90.0)),
        run(2, report=report(0.6, 89.0, fingerprint="e" * 64)),
        run(3, report=report(0.7, 88.0, device="laptop")),
        run(4, report=report(0.8, 87.0)),
    )
    assert view.mixed
    assert [one.on_front for one in view.runs] == [True, True, True, False]
    lines = [one for one in comparing.front_figure(view)["data"] if one["mode"] == "lines"]
    assert [line["name"].rpartition(" ")[2] for line in lines] == ["board", "board", "laptop"]


def test_latencies_of_different_targets_are_not_related() -> None:
    view = compared(
        run(1, report=report(0.5)),
        run(2, report=report(0.4, fingerprint="e" * 64)),
        run(3, report=report(0.4, fingerprint=None)),
    )
    _, other, unknown = view.runs
    assert (other.ratio, unknown.ratio) == (None, None)
    assert other.verdict is not None
    assert other.verdict.reason == "measured on another target"
    assert unknown.verdict is not None
    assert unknown.verdict.reason == "the target of one is not stated"


def test_the_front_is_a_step_line_and_dominated_runs_are_faint() -> None:
    view = compared(run(1, report=report(0.5, 90.0)), run(2, report=report(0.6, 89.0)))
    line, first, second, dense = comparing.front_figure(view)["data"]
    assert (line["line"]["shape"], line["x"]) == ("hv", [0.5])
    assert first["opacity"] == 1.0
    assert second["opacity"] < 1.0
    assert second["name"].endswith("(dominated)")
    assert dense["x"] == [1.0]


def test_columns_of_equal_runs_have_different_names() -> None:
    view = compared(run(1), run(2), run(3))
    assert len({one.short for one in view.runs}) == 3
