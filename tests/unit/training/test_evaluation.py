from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from latency_service.training.evaluation import FOLDS, FOLDS_OF_FEW, errors, fold_of, spearman


@pytest.mark.parametrize(("count", "expected"), [(103, FOLDS_OF_FEW), (203, FOLDS)])
def test_every_fold_covers_the_range(count: int, expected: int) -> None:
    latency = np.random.default_rng(0).uniform(1, 10, count)
    folds = fold_of(latency, seed=0)
    assert folds.max() + 1 == expected
    for fold in range(expected):
        held = np.sort(latency)[np.flatnonzero(folds[np.argsort(latency)] == fold)]
        assert count // expected <= len(held) <= count // expected + 1
        assert held[0] < 2.2
        assert held[-1] > 8.4


def test_errors_are_counted_in_per_cent() -> None:
    found = errors("m", np.log([1.02, 2.0, 2.76, 4.36]), np.array([1.0, 2.0, 3.0, 4.0]), differentiable=True)
    assert found.mape == pytest.approx((2 + 0 + 8 + 9) / 4)
    assert (found.within_5, found.within_10) == (50, 100)
    assert found.p90 == pytest.approx(8.7)
    assert found.spearman == pytest.approx(1)


def test_rank_correlation_shares_ties() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 5, 50).astype(float), rng.integers(0, 9, 50).astype(float)
    assert spearman(first, second) == pytest.approx(spearmanr(first, second).statistic)
    assert spearman(first, np.ones(50)) == 0
