from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning_client.errors import BudgetError
from pruning_client.latency.predictor import Predictor
from pruning_client.methods import allocation
from pruning_client.methods.annealing import search

LATTICE = [[4, 8, 12, 16], [2, 4, 8, 16, 24]]
FULL = [16, 24]


def linear(widths: object) -> np.ndarray:
    """0.1 ms + 0.01 ms and 0.02 ms a channel."""
    return 0.1 + np.asarray(widths, float) @ np.array([0.01, 0.02])


def scores(seed: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.random(width) + 0.01 for width in FULL]


@pytest.mark.parametrize("name", sorted(allocation.ALLOCATORS))
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), target_ms=st.floats(0.19, 0.8))
def test_on_the_lattice_and_within_the_target(name: str, seed: int, target_ms: float) -> None:
    widths = allocation.ALLOCATORS[name](scores(seed), linear, LATTICE, target_ms)
    assert all(width in choices for width, choices in zip(widths, LATTICE, strict=True))
    assert linear([widths])[0] <= target_ms


@pytest.mark.parametrize("name", sorted(allocation.ALLOCATORS))
def test_nothing_is_removed_when_nothing_has_to_be(name: str) -> None:
    assert allocation.ALLOCATORS[name](scores(0), linear, LATTICE, 10.0) == FULL


@pytest.mark.parametrize("name", sorted(allocation.ALLOCATORS))
def test_out_of_reach_names_the_lowest(name: str) -> None:
    with pytest.raises(
        BudgetError, match=r"0\.05 ms is below .* lowest predicted latency is 0\.18 ms"
    ) as caught:
        allocation.ALLOCATORS[name](scores(0), linear, LATTICE, 0.05)
    assert caught.value.exit_code == 7


def test_uniform_takes_the_same_share_of_every_group() -> None:
    assert allocation.uniform(
        scores(0), linear, [list(range(1, 17)), list(range(1, 25))], 0.421
    ) == [8, 12]


def test_threshold_prunes_the_group_of_equal_scores_last() -> None:
    skewed = [np.array([1.0] * 4 + [0.001] * 12), np.ones(24)]
    assert allocation.threshold(skewed, linear, LATTICE, 0.63) == [4, 24]


def test_greedy_removes_where_a_millisecond_costs_least() -> None:
    cheap = [np.full(16, 1.0), np.full(24, 1.5)]  # 100 a ms in the first group, 75 in the second
    assert allocation.greedy(cheap, linear, LATTICE, 0.6) == [16, 16]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), target_ms=st.floats(0.19, 0.8))
def test_the_order_of_removal_is_that_of_greedy(seed: int, target_ms: float) -> None:
    """What greedy keeps for any target are the channels that go last, from place zero on."""
    widths = allocation.greedy(scores(seed), linear, LATTICE, target_ms)
    order = allocation.removal_order(scores(seed), linear, LATTICE, widths)
    assert sorted(np.concatenate(order)) == list(range(sum(widths) - sum(FULL), sum(widths)))
    for places, width, score in zip(order, widths, scores(seed), strict=True):
        assert int((places >= 0).sum()) == width
        assert set(np.argsort(places)[-width:]) == set(np.argsort(score)[-width:])


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 1000), first=st.sampled_from(LATTICE[0]), second=st.sampled_from(LATTICE[1])
)
def test_the_order_of_removal_passes_through_the_widths(seed: int, first: int, second: int) -> None:
    order = allocation.removal_order(scores(seed), linear, LATTICE, [first, second])
    assert [int((places >= 0).sum()) for places in order] == [first, second]
    for places, score in zip(order, scores(seed), strict=True):
        assert list(np.argsort(places)) == list(np.argsort(score))


def test_fit_prefers_the_wider_width() -> None:
    assert allocation.fit([9, 7], scores(0), linear, LATTICE, linear([[12, 8]])[0]) == [12, 8]


def test_fit_spends_slack() -> None:
    widths = allocation.fit([4, 2], scores(0), linear, LATTICE, 0.5)
    grown = [allocation.round_up([w + 1 for w in widths], LATTICE)]
    assert linear(grown)[0] > 0.5


def test_an_exchange_uses_slack_that_no_chunk_fits_into() -> None:
    """20 us of slack, and every chunk takes at least 40: the second group goes down one step, the
    first one up two.
    """
    lattice = [list(range(4, 65, 4)), list(range(4, 65, 4))]
    flat = [np.full(64, 1.0), np.full(64, 0.5)]

    def latency(widths: object) -> np.ndarray:
        return np.asarray(widths, float) @ np.array([0.01, 0.015])

    start = [32, 32]
    target_ms = 0.8201
    assert allocation.grow(start, flat, latency, lattice, target_ms) == start
    widths = allocation.exchange(start, flat, latency, lattice, target_ms)
    assert widths == [40, 28]
    assert 0.996 * target_ms <= latency([widths])[0] <= target_ms


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), target_ms=st.floats(0.25, 0.8))
def test_exchanges_stay_within_the_target_and_never_lose_latency(
    seed: int, target_ms: float
) -> None:
    start = allocation.shrink(FULL, scores(seed), linear, LATTICE, target_ms)
    widths = allocation.exchange(start, scores(seed), linear, LATTICE, target_ms)
    assert all(width in choices for width, choices in zip(widths, LATTICE, strict=True))
    assert linear([start])[0] <= linear([widths])[0] <= target_ms


def test_many_groups_come_close_to_the_target() -> None:
    rng = np.random.default_rng(0)
    lattice = [list(range(8, 65, 8))] * 12
    slopes = rng.uniform(0.005, 0.02, 12)
    made = [rng.random(64) + 0.01 for _ in range(12)]
    for target_ms in (2.0, 3.3, 5.1):
        widths = allocation.fit(
            [64] * 12, made, lambda w: np.asarray(w, float) @ slopes, lattice, target_ms
        )
        assert 0.995 * target_ms <= float(np.array(widths) @ slopes) <= target_ms


def test_the_predictor_need_not_be_monotone() -> None:
    """A narrow band of slow widths in the middle does not stop the search above or below it."""

    def bumpy(widths: object) -> np.ndarray:
        w = np.asarray(widths, float)
        return linear(w) + 0.5 * ((w[:, 1] > 8) & (w[:, 1] < 20))

    assert allocation.uniform(scores(0), bumpy, LATTICE, 0.75) == FULL
    widths = allocation.uniform(scores(0), bumpy, LATTICE, 0.5)
    assert bumpy([widths])[0] <= 0.5


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), target_ms=st.floats(0.19, 0.8))
def test_search_finds_the_best_of_all(seed: int, target_ms: float) -> None:
    """Against every width vector there is; the value rewards groups that are wide together."""
    share = np.random.default_rng(seed).random()

    def value(widths: np.ndarray) -> np.ndarray:
        return share * widths.prod(1) / 384 + (1 - share) * widths[:, 0] / 16

    start = allocation.greedy(scores(seed), linear, LATTICE, target_ms)
    found = search(value, linear, LATTICE, target_ms, start=start)
    everything = np.array(list(product(*LATTICE)))
    possible = everything[linear(everything) <= target_ms]
    assert value(np.array([found]))[0] == value(possible).max()
    assert linear([found])[0] <= target_ms


def test_with_a_real_predictor(predictor: Predictor) -> None:
    full = predictor.sidecar.full_widths
    made = [np.random.default_rng(g).random(width) + 0.01 for g, width in enumerate(full)]
    target_ms = 0.6 * predictor.one_ms(full)
    widths = allocation.greedy(made, predictor.latency_ms, predictor.lattice, target_ms)
    assert 0.4 * predictor.one_ms(full) < predictor.one_ms(widths) <= target_ms
