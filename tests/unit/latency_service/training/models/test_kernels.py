"""Leave-one-out errors in closed form, against leaving one out."""

from __future__ import annotations

import numpy as np
import pytest

from latency_service.training.models import baselines, kernels
from latency_service.training.models.kernels import NOISES, best_noise, squared_distances

Floats = np.ndarray


@pytest.fixture
def drawn() -> tuple[Floats, Floats, Floats]:
    """Points [N, 3], values [N] with noise, and weights [N]."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(25, 3))
    return x, np.sin(x).sum(1) + rng.normal(0, 0.2, 25), rng.uniform(0.3, 2.0, 25)


def left_out(product: Floats, target: Floats, weights: Floats, noise: float) -> float:
    """Weighted mean absolute error of each value, predicted by a fit to the others."""
    errors = []
    for k in range(len(target)):
        others = np.arange(len(target)) != k
        matrix = product[np.ix_(others, others)] + np.diag(noise / weights[others])
        errors.append(target[k] - product[k, others] @ np.linalg.solve(matrix, target[others]))
    return float(np.average(np.abs(errors), weights=weights))


def test_the_least_error_is_that_of_leaving_each_one_out(
    drawn: tuple[Floats, Floats, Floats],
) -> None:
    x, target, weights = drawn
    product = np.exp(-0.5 * squared_distances(x, x) / 2)
    expected = {noise: left_out(product, target, weights, noise) for noise in NOISES}
    error, noise = best_noise(product, target, weights)
    assert noise == min(expected, key=lambda one: expected[one])
    assert error == pytest.approx(expected[noise], rel=1e-6)


def test_kernel_ridge_takes_the_length_of_the_least_error(
    drawn: tuple[Floats, Floats, Floats],
) -> None:
    x, target, weights = drawn
    full = np.full(3, 64.0)
    widths = 64 * np.exp(x - x.max())
    ridge = baselines.fit_kernel_ridge(full, 0 * full, widths, np.exp(target), weights, seed=0)
    centred = target - target.mean()
    found = {}
    for share in baselines.RIDGE_LENGTHS:
        length = share * 3**0.5
        product = np.exp(-0.5 * squared_distances(x, x) / length**2)
        found[length] = min(left_out(product, centred, weights, noise) for noise in NOISES)
    assert ridge.lengths == pytest.approx(np.full(3, min(found, key=lambda one: found[one])))


def test_many_measurements_are_tuned_on_in_part() -> None:
    tuned = kernels.tuned_on(1000, seed=0)
    assert len(tuned) == len(set(tuned)) == kernels.MOST_TUNED_ON
    assert (np.diff(tuned) > 0).all()
    np.testing.assert_array_equal(kernels.tuned_on(50, seed=0), np.arange(50))
