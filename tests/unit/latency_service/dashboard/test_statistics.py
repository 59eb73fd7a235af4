from __future__ import annotations

import numpy as np
import pytest

from latency_service.dashboard.statistics import (
    Interval,
    front,
    ratio_interval,
    share_interval,
    spearman_interval,
    verdict_of,
)
from latency_service.measurements.ranks import ranks_of, spearman


def test_interval_of_a_share_is_wilsons() -> None:
    found = share_interval(9, 10)
    assert (round(found.lower, 3), round(found.upper, 3)) == (0.596, 0.982)


def test_a_share_of_nothing_has_no_interval() -> None:
    with pytest.raises(ValueError, match="nothing"):
        share_interval(0, 0)


def test_interval_of_a_share_stays_between_zero_and_one() -> None:
    assert share_interval(10, 10).upper == 1.0
    assert share_interval(0, 10).lower == 0.0


def test_ratio_of_a_value_to_itself_includes_one() -> None:
    value = Interval(value=2.0, lower=1.9, upper=2.1)
    ratio = ratio_interval(value, value)
    assert ratio.value == pytest.approx(1.0)
    assert ratio.lower < 1 < ratio.upper


def test_ratio_of_exact_values_is_exact() -> None:
    ratio = ratio_interval(
        Interval(value=1.0, lower=1.0, upper=1.0), Interval(value=2.0, lower=2.0, upper=2.0)
    )
    assert (ratio.lower, ratio.value, ratio.upper) == pytest.approx((0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("ratio", "floor", "word"),
    [
        (Interval(value=0.9, lower=0.88, upper=0.92), 2.0, "faster"),
        (Interval(value=1.2, lower=1.1, upper=1.3), None, "slower"),
        (Interval(value=0.99, lower=0.95, upper=1.03), 0.1, "no difference seen"),
        # clear of one, and yet as small as the difference between two measurements
        (Interval(value=0.985, lower=0.98, upper=0.99), 2.0, "no difference seen"),
    ],
)
def test_verdicts(ratio: Interval, floor: float | None, word: str) -> None:
    assert verdict_of(ratio, floor).word == word


def test_front_holds_what_nothing_beats() -> None:
    costs = [1.0, 2.0, 3.0, 2.0, 1.0]
    gains = [90.0, 95.0, 94.0, 95.0, 80.0]
    assert front(costs, gains) == [True, True, False, True, False]


def test_front_agrees_with_its_definition() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        costs, gains = random.integers(0, 6, (2, 12)).astype(float).tolist()
        expected = [
            not any(
                other != own and other[0] <= own[0] and other[1] >= own[1]
                for other in zip(costs, gains, strict=True)
            )
            for own in zip(costs, gains, strict=True)
        ]
        assert front(costs, gains) == expected


def test_equal_values_share_their_rank() -> None:
    assert ranks_of(np.array([3.0, 1.0, 3.0])).tolist() == [2.5, 1.0, 2.5]


def test_rank_correlation() -> None:
    rising = np.arange(6.0)
    assert spearman(rising, np.exp(rising)) == pytest.approx(1.0)
    assert spearman(rising, -rising) == pytest.approx(-1.0)
    assert spearman(rising, np.ones(6)) == 0.0


def test_interval_of_a_rank_correlation_narrows() -> None:
    few, many = spearman_interval(0.8, 10), spearman_interval(0.8, 1000)
    assert few is not None
    assert many is not None
    assert few.lower < many.lower < 0.8 < many.upper < few.upper < 1
    assert spearman_interval(0.8, 4) is None
