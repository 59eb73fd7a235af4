from __future__ import annotations

import numpy as np
import pytest

from latency_service.training.intervals import coverage, gain, half_width


def test_the_quantile_is_split_conformals() -> None:
    residuals = np.arange(1, 20) / 100 * np.where(np.arange(19) % 2, 1, -1)
    assert half_width(residuals, 0.9) == pytest.approx(0.18)  # the 18th of 19


def test_few_residuals_give_the_greatest() -> None:
    assert half_width(np.array([0.01, -0.05, 0.02]), 0.9) == 0.05


def test_it_covers_new_measurements_as_promised() -> None:
    rng = np.random.default_rng(0)
    shares = [
        np.mean(np.abs(rng.standard_t(4, 200)) <= half_width(rng.standard_t(4, 100), 0.9))
        for _ in range(300)
    ]
    assert np.mean(shares) == pytest.approx(0.9, abs=0.01)


def test_coverage_is_judged_by_other_folds() -> None:
    residuals = np.concatenate([np.full(80, 0.01), np.full(20, 1.0)])
    folds = np.repeat(np.arange(5), 20)  # the last fold alone is wild: nothing but it is outside
    assert coverage(residuals, folds, 0.7) == pytest.approx(0.8)


def test_only_a_steep_learner_gains() -> None:
    by_folds = np.full(100, 0.04)
    by_folds[:5] = 3.0  # one that hardly knows anything says nothing about the others
    assert gain(np.full(100, 0.03), by_folds) == pytest.approx(0.75)
    assert gain(np.full(100, 0.037), by_folds) == 1.0
    assert gain(np.full(100, 0.05), by_folds) == 1.0, "an interval never gets wider by it"
    assert gain(np.full(100, np.nan), by_folds) == 1.0
