from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from latency_service.measurements.ranks import spearman
from latency_service.training.evaluation import FOLDS, errors, fold_of


def test_every_fold_covers_the_range() -> None:
    latency = np.random.default_rng(0).uniform(1, 10, 103)
    folds = fold_of(latency, seed=0)
    for fold in range(FOLDS):
        held = np.sort(latency)[np.flatnonzero(folds[np.argsort(latency)] == fold)]
        assert 20 <= len(held) <= 21
        assert held[0] < 1.6
        assert held[-1] > 9.4


def test_errors_are_counted_in_per_cent() -> None:
    found = errors(
        "m", np.log([1.02, 2.0, 2.76, 4.36]), np.array([1.0, 2.0, 3.0, 4.0]), differentiable=True
    )
    assert found.mape == pytest.approx((2 + 0 + 8 + 9) / 4)
    assert (found.within_5, found.within_10) == (50, 100)
    assert found.p90 == pytest.approx(8.7)
    assert found.spearman == pytest.approx(1)


def test_rank_correlation_shares_ties() -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 5, 50).astype(float)
    second = rng.integers(0, 9, 50).astype(float)
    assert spearman(first, second) == pytest.approx(spearmanr(first, second).statistic)
    assert spearman(first, np.ones(50)) == 0
