"""What other targets' latencies say about this one's."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from latency_service.training.models.mixtures import fit_blend, fit_bottlenecks, mean, shares_by

NOISE = 0.005


@dataclass(frozen=True)
class Other:
    """A target that takes the sum of each network's widths [N, G], each to this power, ms."""

    power: float

    def log_latency(self, widths: np.ndarray) -> np.ndarray:
        return np.asarray(np.log((widths.astype(float) ** self.power).sum(1)))


#: What launching takes depends little on the widths, what computing takes a great deal.
LAUNCHING = Other(0.4)
COMPUTING = Other(2.0)
BETWEEN = Other(1.0)


def networks(count: int, seed: int) -> np.ndarray:
    """Widths [N, 4], from thin to wide networks."""
    rng = np.random.default_rng(seed)
    return np.asarray(rng.uniform(4, 64, (count, 1)) * rng.uniform(0.7, 1.3, (count, 4)))


def noisy(latency_ms: np.ndarray, seed: int) -> np.ndarray:
    return np.asarray(
        latency_ms * np.exp(NOISE * np.random.default_rng(seed).standard_normal(len(latency_ms)))
    )


def slower_of_two(widths: np.ndarray) -> np.ndarray:
    """A batch at which half of the networks wait for their launches [N], ms."""
    launching, computing = (np.exp(other.log_latency(widths)) for other in (LAUNCHING, COMPUTING))
    return np.maximum(2.0 * launching, 0.006 * computing)


@pytest.mark.parametrize("count", [10, 50])
def test_the_slower_of_two_other_targets_is_found_where_no_blend_is(count: int) -> None:
    others = [BETWEEN, LAUNCHING, COMPUTING]
    seen = networks(count, seed=1)
    held = networks(200, seed=2)
    weights = np.ones(count)
    truth = np.log(slower_of_two(held))
    off = {
        fit: np.abs(
            fit(others, seen, noisy(slower_of_two(seen), 3), weights).log_latency(held) - truth
        ).mean()
        for fit in (fit_bottlenecks, fit_blend)
    }
    assert off[fit_bottlenecks] < 0.025
    assert off[fit_bottlenecks] < 0.4 * off[fit_blend]


def test_what_a_run_costs_whatever_its_widths_is_found() -> None:
    seen = networks(20, seed=4)
    held = networks(200, seed=5)

    def latency(widths: np.ndarray) -> np.ndarray:
        return np.asarray(5.0 + 0.001 * np.exp(COMPUTING.log_latency(widths)))

    found = fit_bottlenecks([COMPUTING], seen, latency(seen), np.ones(20))
    assert np.abs(found.log_latency(held) - np.log(latency(held))).mean() < 0.03


def test_what_is_not_seen_changes_nothing() -> None:
    widths = networks(30, seed=6)
    latency = slower_of_two(widths)
    weights = np.where(np.arange(30) < 20, 1.0, 0.0)
    other = np.where(weights > 0, latency, 1000.0)
    first, second = (
        fit_bottlenecks([LAUNCHING, COMPUTING], widths, taken, weights)
        for taken in (latency, other)
    )
    np.testing.assert_allclose(first.log_latency(widths), second.log_latency(widths))


def test_models_weigh_by_a_power_of_their_errors_and_the_bad_ones_nothing() -> None:
    shares = shares_by(np.array([0.1, 0.2, 0.5]), 2.0)
    np.testing.assert_allclose(shares, [0.8, 0.2, 0.0])
    found = mean([LAUNCHING, COMPUTING, BETWEEN], shares)
    assert found.models == [LAUNCHING, COMPUTING]
    widths = networks(5, seed=7)
    expected = 0.8 * LAUNCHING.log_latency(widths) + 0.2 * COMPUTING.log_latency(widths)
    np.testing.assert_allclose(found.log_latency(widths), expected)
