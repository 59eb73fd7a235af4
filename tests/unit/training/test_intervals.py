from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from latency_service.training import train
from latency_service.training.evaluation import fold_of
from latency_service.training.intervals import coverage, half_width


def test_the_quantile_is_split_conformals() -> None:
    residuals = np.arange(1, 20) / 100 * np.where(np.arange(19) % 2, 1, -1)
    assert half_width(residuals, 0.9) == pytest.approx(0.18)  # the 18th of 19


def test_few_residuals_give_the_greatest() -> None:
    assert half_width(np.array([0.01, -0.05, 0.02]), 0.9) == 0.05


def test_it_covers_new_measurements_as_promised() -> None:
    rng = np.random.default_rng(0)
    shares = [np.mean(np.abs(rng.standard_t(4, 200)) <= half_width(rng.standard_t(4, 100), 0.9)) for _ in range(300)]
    assert np.mean(shares) == pytest.approx(0.9, abs=0.01)


def test_coverage_is_judged_by_other_folds() -> None:
    residuals = np.concatenate([np.full(80, 0.01), np.full(20, 1.0)])
    folds = np.repeat(np.arange(5), 20)  # the last fold alone is wild: nothing but it is outside
    assert coverage(residuals, folds, 0.7) == pytest.approx(0.8)


@pytest.mark.parametrize(("count", "expected"), [(100, 1 / 95), (200, 1 / 190), (300, 1 / 240)])
def test_few_measurements_are_left_out_few_at_a_time(count: int, expected: float) -> None:
    """With a model that is off by one over the number of measurements that it has seen."""
    latency = np.linspace(1.0, 2.0, count)
    widths = latency[:, None]

    def fit(problem: Any, _told: Any) -> list[Any]:
        offs = [1 / (row > 0).sum() for row in problem.weights]
        return [SimpleNamespace(log_latency=lambda at, off=off: np.log(at[:, 0]) - off) for off in offs]

    folds = fold_of(latency, 0)
    weights = np.vstack([train._without_each(folds, np.ones(count)), np.ones(count)])
    problem: Any = train.Problem(
        structure=None, full=np.ones(1), floor=np.ones(1), widths=widths, latency_ms=latency, weights=weights,
        sources=[], seed=0,
    )  # fmt: skip
    held_out = train._held_out(fit(problem, None), problem, folds)
    served: Any = SimpleNamespace(candidate=SimpleNamespace(fit=fit), held_out=held_out)
    residuals, _ = train._for_interval(served, problem, folds, lambda share: None)
    np.testing.assert_allclose(residuals, expected)
