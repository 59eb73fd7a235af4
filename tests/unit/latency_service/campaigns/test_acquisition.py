"""Which architectures come next: near a point, and where the model is least sure."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency_service.campaigns.acquisition import STEPS, choose, error_bound, nearby

LATTICE = [list(range(4, 65, 4)), list(range(8, 129, 8)), [3, 5, 7]]


def test_nearby_starts_with_the_point_itself_and_stays_within_its_steps() -> None:
    found = nearby(LATTICE, [33, 60, 5], 40, seed=1)
    assert found[0] == [32, 56, 5]  # 60 lies between 56 and 64: the first of equals
    assert len(found) == len({tuple(row) for row in found}) == 40
    for row in found:
        for widths, width, middle in zip(LATTICE, row, found[0], strict=True):
            assert abs(widths.index(width) - widths.index(middle)) <= STEPS


def test_nearby_gives_all_there_are_when_there_are_few() -> None:
    found = nearby([[4, 8], [5]], [4, 5], 10, seed=0)
    assert sorted(found) == [[4, 5], [8, 5]]


def test_nearby_is_a_function_of_its_seed() -> None:
    assert nearby(LATTICE, [32, 64, 5], 20, 7) == nearby(LATTICE, [32, 64, 5], 20, 7)
    assert nearby(LATTICE, [32, 64, 5], 20, 7) != nearby(LATTICE, [32, 64, 5], 20, 8)


GRID = np.array(list(itertools.product([8, 16, 32, 64], [8, 16, 32, 64])))
EQUAL = np.ones(2)
SURE = np.ones(len(GRID))


def test_choose_takes_the_farthest_first() -> None:
    picked = choose(GRID, np.array([[8, 8]]), 1, elasticity=EQUAL, doubt=SURE)
    assert GRID[picked[0]].tolist() == [64, 64]


def test_choose_prefers_groups_that_matter() -> None:
    measured = np.array([[8, 8], [64, 64]])
    picked = choose(GRID, measured, 1, elasticity=np.array([1.0, 0.01]), doubt=SURE)
    assert GRID[picked[0]][0] in (16, 32), "the group without effect does not count"


def test_choose_prefers_what_the_model_doubts() -> None:
    doubt = SURE.copy()
    doubt[5] = 100.0
    assert choose(GRID, np.array([[8, 8]]), 1, elasticity=EQUAL, doubt=doubt) == [5]


@given(
    st.integers(1, 16),
    st.lists(st.integers(0, 15), min_size=1, max_size=6, unique=True),
    st.integers(0, 99),
)
def test_choose_never_repeats_what_is_measured_or_chosen(
    count: int, known: list[int], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    picked = choose(GRID, GRID[known], count, elasticity=rng.random(2), doubt=rng.random(16) + 0.1)
    assert len(picked) == len(set(picked)) == min(count, 16 - len(known))
    assert not set(picked) & set(known)


def test_choose_covers_better_than_chance() -> None:
    rng = np.random.default_rng(0)
    pool = rng.integers(4, 65, (300, 6))
    measured = rng.integers(4, 65, (10, 6))
    ours = pool[choose(pool, measured, 20, elasticity=np.ones(6), doubt=np.ones(300))]

    def farthest(points: np.ndarray) -> float:
        every = np.log(np.concatenate([measured, points]))
        return float(np.linalg.norm(np.log(pool)[:, None] - every[None], axis=2).min(axis=1).max())

    assert farthest(ours) < min(farthest(pool[rng.permutation(300)[:20]]) for _ in range(20))


@pytest.mark.parametrize("shape", [(0, 2), (3, 2)])
def test_choose_takes_any_number_of_measured(shape: tuple[int, int]) -> None:
    assert len(choose(GRID, np.full(shape, 8), 4, elasticity=EQUAL, doubt=SURE)) == 4


def test_the_bound_covers_the_true_mean_error() -> None:
    """Of half-normal errors, the kind that good models have, in well over 95 % of repetitions."""
    rng = np.random.default_rng(0)
    errors = np.abs(rng.standard_normal((2000, 50)))
    covered = [error_bound(float(row.mean()), 50) >= np.sqrt(2 / np.pi) for row in errors]
    assert np.mean(covered) >= 0.95
    assert error_bound(3.0, 100) == pytest.approx(3.49, abs=0.01)
