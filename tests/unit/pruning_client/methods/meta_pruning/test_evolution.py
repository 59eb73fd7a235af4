"""The evolutionary search on a made-up fitness."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest

from latency_service.core.arrays import Floats
from pruning_client.errors import UsageError
from pruning_client.methods.meta_pruning.encodings import Candidates, Encoding
from pruning_client.methods.meta_pruning.evolution import SearchOptions, evolve
from pruning_client.methods.width_grid import WidthGrid

GRID = WidthGrid([list(range(4, 33, 4))] * 6)
TARGET_MS = 110.0
#: Value of a channel of each group; the first ones are worth far more.
WORTH = np.array([8.0, 5.0, 3.0, 1.0, 0.5, 0.2])


def latency_ms(widths: object) -> Floats:
    return np.asarray(widths, np.float64).sum(axis=1)


def value(widths: object) -> Floats:
    return np.sqrt(np.asarray(widths, np.float64)) @ WORTH


def made(target_ms: float = TARGET_MS, seed: int = 0) -> Candidates:
    return Candidates(GRID, latency_ms, target_ms, np.random.default_rng(seed))


class Judge:
    """The made-up fitness; keeps all candidates by generation."""

    def __init__(self, candidates: Candidates) -> None:
        self._candidates = candidates
        self.born: list[list[Encoding]] = []

    def __call__(self, _generation: int, born: Sequence[Encoding]) -> list[float]:
        self.born.append(list(born))
        return value([self._candidates.widths(one) for one in born]).tolist()


def optimum() -> float:
    everything = GRID.widths(np.array(list(product(range(8), repeat=6))))
    return float(value(everything[latency_ms(everything) <= TARGET_MS]).max())


def test_the_search_finds_the_planted_optimum() -> None:
    """Of 262,144 architectures with 1,000 candidates; 50 random ones are far from it."""
    candidates = made()
    judge = Judge(candidates)
    best = evolve(candidates, judge, SearchOptions())
    assert best.fitness == pytest.approx(optimum(), rel=0.002)
    assert float(value([candidates.widths(best.encoding)])[0]) == pytest.approx(best.fitness)
    first = value([candidates.widths(one) for one in judge.born[0]])
    assert first.max() < 0.98 * optimum()


def test_every_candidate_that_is_judged_meets_the_budget_and_is_judged_once() -> None:
    candidates = made()
    judge = Judge(candidates)
    evolve(candidates, judge, SearchOptions())
    born = [one for generation in judge.born for one in generation]
    assert [len(generation) for generation in judge.born] == [50] * 20
    assert len(set(born)) == len(born) == 1000
    assert latency_ms([candidates.widths(one) for one in born]).max() <= TARGET_MS


def test_a_space_that_is_exhausted_ends_the_search() -> None:
    candidates = made(target_ms=32.0)
    judge = Judge(candidates)
    best = evolve(candidates, judge, SearchOptions())
    born = [one for generation in judge.born for one in generation]
    assert set(born) <= {one for one in product(range(8), repeat=6) if sum(one) <= 2}
    assert len(judge.born) < 20
    assert candidates.widths(best.encoding)[:1] == [12]


@pytest.mark.parametrize(
    "options", [{"parents": 0}, {"generations": 0}, {"population": 20, "crossovers": 25}]
)
def test_a_search_that_cannot_be_done_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        SearchOptions(**options)
