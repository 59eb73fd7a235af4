from __future__ import annotations

import pytest

from latency_service.dashboard.palette import BLUE
from latency_service.dashboard.predictors import figures, views
from latency_service.predictors.schemas import CoveragePoint, HeldOut, LearningPoint, ModelErrors
from tests.support import fake_predictor


def held_out(count: int, *, off: float = 0.0) -> HeldOut:
    measured = [1.0 + row for row in range(count)]
    return HeldOut(
        widths=[[float(row), 8.0] for row in range(count)],
        measured_ms=measured,
        predicted_ms=[ms * (1 + off) for ms in measured],
        coverage=[CoveragePoint(nominal=0.9, empirical=0.5)],
    )


def test_regions_cover_every_architecture_once() -> None:
    regions = views.regions_of(held_out(23, off=0.04))
    assert [region.n for region in regions] == [5, 5, 5, 4, 4]
    assert regions[0].low_ms == 1.0
    assert regions[-1].high_ms == 23.0
    assert [region.bias for region in regions] == pytest.approx([4.0] * 5)
    assert all(region.p90 is None for region in regions), "a percentile of five is no percentile"


def test_percentiles_of_regions_with_enough_architectures() -> None:
    assert all(region.p90 is not None for region in views.regions_of(held_out(100)))


def test_without_held_out_predictions_there_is_nothing_to_show() -> None:
    assert views.regions_of(None) == []
    assert views.pairs_of(None) == []
    assert views.calibration_of(None) == []


def test_an_interval_that_misses_its_level_does_not_hold() -> None:
    (row,) = views.calibration_of(held_out(100))
    assert (row.nominal, row.empirical.value, row.n) == (90.0, 50.0, 100)
    assert not row.holds


def test_an_interval_within_what_chance_allows_holds() -> None:
    (row,) = views.calibration_of(fake_predictor.held_out())
    assert row.holds
    assert row.empirical.lower < 90 < row.empirical.upper


def test_signed_errors_are_relative_to_the_measurement() -> None:
    pairs = views.pairs_of(fake_predictor.held_out())
    assert sorted({round(pair.error_percent, 6) for pair in pairs}) == [-3.0, 2.0]


def test_baselines_are_related_to_the_served_model() -> None:
    rivals = [
        ModelErrors(
            name=name,
            mape=mape,
            p90=1.0,
            within_5=1.0,
            within_10=1.0,
            spearman=1.0,
            differentiable=True,
        )
        for name, mape in (("gaussian-process", 3.0), ("lpnet", 1.5))
    ]
    sidecar = fake_predictor.sidecar("s" * 64, "f" * 64)
    changed = sidecar.model_copy(update={"rivals": rivals, "model": "lpnet", "mape": 1.5})
    served, other = views.baselines_of(changed)
    assert (served.name, served.served, served.ratio) == ("lpnet", True, 1.0)
    assert (other.served, other.ratio) == (False, 2.0)


def test_what_a_predictor_is_not_for_names_its_floor_and_its_range() -> None:
    said = " ".join(views.not_for(fake_predictor.sidecar("s", "f"), held_out(10)))
    assert "less than 0.5 %" in said
    assert "1 to 10 ms" in said


def test_one_question_in_three_forms() -> None:
    ask = views.ask_of("abc", [16, 32], "http://board:8760/x/")
    assert "http://board:8760/x/v1/predictors/abc/predict" in ask.curl
    assert '{"widths": [16, 32]}' in ask.curl
    assert "--widths 16,32 --server http://board:8760/x" in ask.cli
    compile(ask.python, "ask", "exec")


def test_predictions_are_hollow_and_axes_equal() -> None:
    figure = figures.predicted_against_measured(views.pairs_of(held_out(30, off=0.02)))
    assert figure["data"][-1]["marker"]["symbol"] == "circle-open"
    assert figure["data"][-1]["marker"]["color"] == BLUE
    layout = figure["layout"]
    assert layout["xaxis"]["range"] == layout["yaxis"]["range"]
    assert layout["xaxis"]["type"] == layout["yaxis"]["type"] == "log"
    assert [trace["name"] for trace in figure["data"]][:2] == ["within ±10 %", "within ±5 %"]


def test_bands_are_five_and_ten_per_cent() -> None:
    wide, narrow, *_ = figures.predicted_against_measured(views.pairs_of(held_out(3)))["data"]
    for band, share in ((wide, 0.10), (narrow, 0.05)):
        assert max(band["y"]) == pytest.approx(max(band["x"]) * (1 + share))
        assert min(band["y"]) == pytest.approx(min(band["x"]) / (1 + share))


@pytest.mark.parametrize(("low", "high"), [(0.05, 0.24), (0.9, 1.1), (3.0, 4000.0)])
def test_log_axes_have_at_least_three_ticks_written_out(low: float, high: float) -> None:
    found = figures.log_range(low, high)
    assert len(found["tickvals"]) >= 3
    assert [float(text) for text in found["ticktext"]] == pytest.approx(found["tickvals"])


def test_the_learning_curve_shows_the_floor() -> None:
    points = [LearningPoint(measurements=n, mape=100 / n) for n in (25, 50, 100)]
    curve, floor = figures.learning_curve(points, 0.5)["data"]
    assert curve["y"] == [4.0, 2.0, 1.0]
    assert floor["y"] == [0.5, 0.5]
    assert len(figures.learning_curve(points, None)["data"]) == 1
