"""Readings of one target together: pooling, shares of the reference, probabilities."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning_client.latency.budget import Budget
from pruning_client.latency.readings import Evidence, FileKey, pooled
from tests.support.goals import measured

FULL = (64, 64)
FILE = FileKey("delivered", (32, 32))


def evidence(budget: Budget, dense_ms: float = 2.0) -> Evidence:
    return Evidence.of_dense(budget, FULL, [measured(dense_ms)])


def test_two_readings_of_one_file_are_one() -> None:
    both = pooled([measured(1.0), measured(1.02)])
    assert both.latency_ms == pytest.approx(1.02**0.5)
    assert both.lower_ms <= 1.0
    assert both.upper_ms >= 1.02
    assert both.taken == 2
    assert both.seconds == 24


def test_the_narrower_interval_has_the_larger_weight() -> None:
    both = pooled([measured(1.0, half_width=0.005), measured(1.1, half_width=0.05)])
    assert 1.0 < both.latency_ms < 1.002


@settings(deadline=None)
@given(st.integers(2, 12), st.floats(0.005, 0.1))
def test_readings_that_agree_make_the_interval_narrower(count: int, half_width: float) -> None:
    one = measured(1.0, half_width=half_width)
    assert pooled([one] * count).deviation == pytest.approx(one.deviation / count**0.5, rel=0.01)


def test_an_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Four readings of differing noise, 4,000 times."""
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(4000):
        halves = rng.uniform(0.01, 0.1, 4)
        readings = [
            measured(float(np.exp(half / 1.96 * rng.normal())), half_width=float(np.expm1(half)))
            for half in halves
        ]
        both = pooled(readings)
        inside += both.lower_ms <= 1.0 <= both.upper_ms
    assert 0.94 < inside / 4000 < 0.99


def test_readings_of_different_minutes_compare_by_the_reference() -> None:
    """The reference turns out to be 2 % faster than was thought: so does the dense network."""
    dense = replace(measured(2.0), reference_ms=2.0, reference_elasticity=1.0)
    seen = Evidence.of_dense(Budget(share=0.5), FULL, [dense])
    file = replace(measured(0.97), reference_ms=1.96, reference_elasticity=0.1)
    seen = seen.added(FILE, file)
    assert seen.dense.latency_ms == pytest.approx(1.96)
    assert seen.budget_ms == pytest.approx(0.98)
    assert seen.of(FILE).latency_ms == 0.97


def test_a_reference_that_is_not_the_dense_network_is_told_apart() -> None:
    """The rounds read a network three times as slow: a wider one that is pruned. The file takes
    .9 of the dense network's latency, so .3 of the reference's.
    """
    dense = replace(measured(2.0), share=1 / 3)
    seen = Evidence.of_dense(Budget(share=0.5), FULL, [dense], dense_is_reference=False)
    file = seen.added(FILE, replace(measured(1.8), share=0.3))
    assert file.of(FILE).latency_ms == pytest.approx(1.8)
    assert file.excess(FILE).probability < 0.01
    untold = Evidence.of_dense(Budget(share=0.5), FULL, [measured(2.0)], dense_is_reference=False)
    assert untold.added(FILE, replace(measured(1.8), share=0.3)).of(FILE).latency_ms == 1.8


def test_a_file_counts_by_both_ways_to_its_share_of_the_dense_latency() -> None:
    """Its quiet latency says 50 %, the rounds of its process 49 %."""
    seen = evidence(Budget(share=0.5), 2.0).added(FILE, replace(measured(1.0), share=0.49))
    found = seen.of(FILE)
    assert found.latency_ms == pytest.approx(2.0 * (0.5 * 0.49) ** 0.5)
    assert found.upper_ms / found.lower_ms == pytest.approx(1.005**2)
    # the dense network is itself the reference
    dense = seen.added(seen.dense_key, replace(measured(2.0), share=0.9)).dense
    assert dense.latency_ms == pytest.approx(2.0)


def test_without_a_reference_readings_are_taken_as_they_are() -> None:
    seen = evidence(Budget(share=0.5), 2.0).added(FILE, measured(1.1))
    assert seen.dense.latency_ms == 2.0


@pytest.mark.parametrize(("latency_ms", "probability"), [(0.9, 1.0), (1.0, 0.5), (1.1, 0.0)])
@pytest.mark.parametrize("budget", [Budget(absolute_ms=1.0), Budget(share=0.5)])
def test_the_probability_of_a_budget(budget: Budget, latency_ms: float, probability: float) -> None:
    seen = evidence(budget).added(FILE, measured(latency_ms))
    assert seen.excess(FILE).probability == pytest.approx(probability, abs=1e-6)


def test_a_share_is_as_uncertain_as_the_dense_latency() -> None:
    share, absolute = (
        evidence(budget).added(FILE, measured(0.99)).excess(FILE).deviation
        for budget in (Budget(share=0.5), Budget(absolute_ms=1.0))
    )
    assert share == pytest.approx(2**0.5 * absolute)


def test_a_share_is_no_more_certain_than_the_reference_that_it_rests_on() -> None:
    """Its quiet latency moves within a job, and no reading of the dense network shows it."""

    def probability(reference_ms: float | None) -> float:
        dense, file = (
            replace(measured(latency_ms, half_width=0.001), reference_ms=reference_ms)
            for latency_ms in (2.0, 0.996)
        )
        seen = Evidence.of_dense(Budget(share=0.5), FULL, [dense])
        return seen.added(FILE, file).excess(FILE).probability

    assert probability(None) > 0.95
    assert 0.85 < probability(2.0) < 0.93


def test_a_file_that_was_not_measured() -> None:
    with pytest.raises(KeyError):
        evidence(Budget(share=0.5)).of(FILE)


def test_the_noise_of_files_is_not_that_of_a_dense_network_that_its_memory_slows() -> None:
    noisy = Evidence.of_dense(Budget(share=0.5), FULL, [measured(2.0, half_width=0.07)] * 3)
    assert noisy.noise == pytest.approx(0.07 / 1.96, rel=0.05)
    seen = noisy.added(FILE, measured(1.0, half_width=0.005))
    assert seen.noise == pytest.approx(0.005 / 1.96, rel=0.05)


def test_a_disturbed_reading_of_a_file_is_not_the_noise_of_the_target() -> None:
    seen = evidence(Budget(share=0.5)).added(FILE, measured(1.0, half_width=0.07))
    assert seen.noise == pytest.approx(0.005 / 1.96, rel=0.05)


def test_noise_grows_with_the_scatter_of_the_dense_network() -> None:
    apart = [measured(latency_ms) for latency_ms in (1.96, 2.0, 2.04)]
    alike = Evidence.of_dense(Budget(share=0.5), FULL, [measured(2.0)] * 3)
    assert Evidence.of_dense(Budget(share=0.5), FULL, apart).noise > 3 * alike.noise
