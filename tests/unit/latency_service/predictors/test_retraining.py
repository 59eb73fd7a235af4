"""When a predictor is due to be trained again."""

from __future__ import annotations

import pytest

from latency_service.predictors.retraining import LEAST_NEW, is_due


@pytest.mark.parametrize(
    ("trained_on", "new", "verified", "due"),
    [
        (100, 0, 0, False),
        (100, 1, 1, True),
        (100, LEAST_NEW - 1, 0, False),
        (100, LEAST_NEW, 0, True),
        (400, 79, 0, False),
        (400, 80, 0, True),
        (0, 19, 0, False),
    ],
)
def test_is_due(trained_on: int, new: int, verified: int, due: bool) -> None:
    assert is_due(trained_on=trained_on, new=new, new_verified=verified) is due


def test_a_campaign_of_thousands_trains_a_few_times_only() -> None:
    trained_on = 100
    seen = 100
    trainings = 0
    while seen < 5000:
        seen += 16
        if is_due(trained_on=trained_on, new=seen - trained_on, new_verified=0):
            trained_on = seen
            trainings = trainings + 1
    assert trainings < 25
