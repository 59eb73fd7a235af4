from __future__ import annotations

import numpy as np
import pytest

from latency_service.core.errors import BadRequest
from latency_service.dashboard.whatif import nearest, views
from latency_service.measurements.repository import MeasuredState
from latency_service.predictors.freshness import Freshness, MeasuredLatency
from latency_service.predictors.serving import ServedPredictor, load
from tests.support import fake_predictor

SIDECAR = fake_predictor.sidecar("s" * 64, "f" * 64)


@pytest.fixture(scope="module")
def served() -> ServedPredictor:
    measured = {
        (8, 8): MeasuredLatency(id="measured", latency_ms=0.9, lower_ms=0.89, upper_ms=0.91)
    }
    freshness = Freshness(cure=None, measured=measured, state=MeasuredState(1, "measured"))
    loaded = load("predictor", SIDECAR, fake_predictor.artifact())
    return ServedPredictor(loaded=loaded, freshness=freshness, looked_at=0.0)


def test_widths_travel_in_an_address() -> None:
    assert views.parse_widths("4.12", SIDECAR) == [4, 12]
    assert views.state_of([4, 12]) == "4.12"
    assert views.parse_widths(None, SIDECAR) == [16, 16]


@pytest.mark.parametrize("text", ["4", "4.12.3", "4.x", "1.12", "4.17", "."])
def test_other_widths_are_refused_with_a_cure(text: str) -> None:
    with pytest.raises(BadRequest) as refused:
        views.parse_widths(text, SIDECAR)
    assert refused.value.cure.startswith("Give ")


def test_snapping_raises_widths_to_the_lattice() -> None:
    assert views.snapped([5, 8], SIDECAR) == [8, 8]
    assert views.snapped([13, 2], SIDECAR) == [16, 4]


def test_latency_and_costs_of_an_affine_predictor(served: ServedPredictor) -> None:
    answer = views.answer_of(served, [12, 10])
    assert answer.latency_ms == pytest.approx(0.5 + 0.12 + 0.30)
    assert (answer.source, answer.level) == ("predicted", 90.0)
    assert answer.off_lattice == ["conv1"]
    first, second = answer.costs
    assert (first.narrower, second.narrower) == (8, 8)
    assert first.saved_ms == pytest.approx(0.04, rel=1e-4)
    assert second.saved_ms == pytest.approx(0.06, rel=1e-4)
    assert first.per_channel_us == pytest.approx(10.0, rel=1e-4)
    assert second.gradient_ms == pytest.approx(0.03)


def test_the_narrowest_width_has_nothing_narrower(served: ServedPredictor) -> None:
    (first, _) = views.answer_of(served, [4, 16]).costs
    assert (first.narrower, first.saved_ms, first.per_channel_us) == (None, None, None)


def test_what_was_measured_is_answered_with_its_measurement(served: ServedPredictor) -> None:
    answer = views.answer_of(served, [8, 8])
    assert (answer.source, answer.latency_ms, answer.level) == ("measured", 0.9, 95.0)
    assert answer.measurement_id == "measured"


def test_nearest_architectures_lie_on_the_lattice(served: ServedPredictor) -> None:
    every = [(a, b) for a in SIDECAR.lattice[0] for b in SIDECAR.lattice[1]]
    latency = {pair: 0.5 + 0.01 * pair[0] + 0.03 * pair[1] for pair in every}
    for wanted in (0.66, 0.8, 1.0, 1.14):
        rows = nearest.nearest_to(served.loaded, wanted)
        assert all(tuple(row.widths) in latency for row in rows)
        assert len({tuple(row.widths) for row in rows}) == len(rows)
        best = min(abs(np.log(ms / wanted)) for ms in latency.values())
        assert abs(np.log(rows[0].latency_ms / wanted)) <= best + 0.02


def test_a_latency_that_cannot_be_reached_finds_the_end(served: ServedPredictor) -> None:
    assert nearest.nearest_to(served.loaded, 0.001)[0].widths == [4, 4]
    assert nearest.nearest_to(served.loaded, 99.0)[0].widths == [16, 16]
