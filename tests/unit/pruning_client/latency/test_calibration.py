"""Predictions corrected by measurements: a pure function of both."""

from __future__ import annotations

import numpy as np
import pytest

from pruning_client.latency.calibration import Calibration
from tests.support import goals
from tests.support.goals import measured

HERE = (32, 32, 32)
NEAR = (32, 32, 34)
FAR = (4, 64, 4)


@pytest.fixture
def calibration() -> Calibration:
    return Calibration(predictor=goals.fine())


def factor(calibration: Calibration, widths: tuple[int, ...]) -> float:
    predicted_ms = calibration.predictor.one_ms(widths)
    return float(calibration.latency_ms([widths])[0]) / predicted_ms


def test_without_measurements_it_is_the_prediction(calibration: Calibration) -> None:
    assert factor(calibration, HERE) == 1


def test_one_measurement_corrects_every_prediction(calibration: Calibration) -> None:
    ms = 1.1 * calibration.predictor.one_ms(HERE)
    after = calibration.observed(HERE, measured(ms))
    for widths in (HERE, NEAR, FAR):
        assert factor(after, widths) == pytest.approx(1.1, rel=1e-3)
    assert calibration.observations == ()


def test_the_nearest_measurement_has_the_most_weight(calibration: Calibration) -> None:
    predicted = calibration.predictor.one_ms
    after = calibration.observed(HERE, measured(1.2 * predicted(HERE)))
    after = after.observed(FAR, measured(0.9 * predicted(FAR)))
    assert factor(after, HERE) == pytest.approx(1.2, rel=1e-3)
    assert factor(after, FAR) == pytest.approx(0.9, rel=1e-3)
    assert 1.19 < factor(after, NEAR) < 1.2


def test_repeats_of_one_architecture_are_averaged(calibration: Calibration) -> None:
    predicted_ms = calibration.predictor.one_ms(HERE)
    after = calibration
    for wrong in (1.0, 1.21):
        after = after.observed(HERE, measured(wrong * predicted_ms))
    assert factor(after, HERE) == pytest.approx(1.1, rel=1e-3)


@pytest.mark.parametrize(
    ("half_width", "weight"),
    [
        (0.001, 1.0),  # its interval proves that the predictor is wrong
        (0.07, 0.437),  # predictor and measurement scatter nearly alike
        (0.5, 0.021),
    ],
)
def test_a_measurement_weighs_by_the_variances(
    calibration: Calibration, half_width: float, weight: float
) -> None:
    ms = 1.07 * calibration.predictor.one_ms(HERE)
    after = calibration.observed(HERE, measured(ms, half_width=half_width))
    assert after.observations[0].weight == pytest.approx(weight, abs=2e-3)
    assert np.log(factor(after, FAR)) == pytest.approx(
        after.observations[0].weight * np.log(1.07), rel=1e-4
    )
