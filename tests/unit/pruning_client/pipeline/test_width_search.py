"""The next widths, by corrected predictions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from latency_service.core.arrays import Floats
from pruning_client.errors import BudgetError
from pruning_client.latency.predictor import Predictor
from pruning_client.pipeline.width_search import WidthSearch
from tests.support import goals
from tests.support.goals import measured


def search_of(budget_ms: float) -> WidthSearch:
    predictor = goals.fine()
    return create([predictor], [budget_ms], goals.random_scores(predictor))


def create(
    predictors: Sequence[Predictor], budgets_ms: Sequence[float], scores: Sequence[Floats]
) -> WidthSearch:
    return WidthSearch.create(predictors, budgets_ms, scores, margin=0.008, slack=0.01)


def test_after_a_miss_it_always_gets_narrower() -> None:
    search = search_of(0.7).measured((32, 32, 32), (measured(0.701),))
    after = search.next((32, 32, 32), 0.701)
    assert goals.fine().one_ms(after) < goals.fine().one_ms([32, 32, 32])


def test_a_small_miss_is_corrected_nearby() -> None:
    """Even where scores and a coarse group favour distant widths: the measurement holds near it."""
    lattice = [list(range(4, 65)), [16, 32, 48, 64], list(range(4, 65))]
    uneven = goals.linear(0.1, [0.004, 0.006, 0.008], lattice)
    scores = [np.linspace(1, 2, 64), np.full(64, 1e-3), np.linspace(1, 2, 64)]
    at = (24, 48, 32)
    search = create([uneven], [0.737], scores)
    after = search.measured(at, (measured(0.74),)).next(at, 0.74)
    assert after != at
    assert all(abs(a - b) <= 2 for a, b in zip(after, at, strict=True))


def test_out_of_reach_as_measured() -> None:
    search = search_of(0.2).measured((8, 8, 8), (measured(0.732),))
    with pytest.raises(BudgetError, match=r"A budget of 0\.2 ms .* as measured"):
        search.next((8, 8, 8), 0.732)


def test_a_search_is_not_changed_by_a_measurement() -> None:
    search = search_of(0.7)
    before = search.one_ms((32, 32, 32))
    assert search.measured((32, 32, 32), (measured(0.8),)).one_ms((32, 32, 32)) != before
    assert search.one_ms((32, 32, 32)) == before
    assert search.measured_widths == []


@pytest.mark.parametrize(
    ("widths", "latency_ms", "is_good"),
    [
        ((32, 32, 32), 0.699, False),  # half of the margin is left for the file
        ((32, 32, 32), 0.697, True),
        ((32, 32, 32), 0.68, False),  # slack is left
        ((64, 64, 64), 0.68, True),  # but nothing to spend it on
    ],
)
def test_good_is_within_the_limit_without_slack(
    widths: tuple[int, ...], latency_ms: float, *, is_good: bool
) -> None:
    assert search_of(0.7).is_good(widths, latency_ms) is is_good


def test_the_worst_target_decides() -> None:
    predictor = goals.fine()
    search = create([predictor] * 2, [0.7, 1.4], goals.random_scores(predictor))
    assert search.worst_ms((measured(0.6), measured(1.5))) == pytest.approx(0.75)
    assert search.worst_ms((measured(0.8), measured(1.5))) == pytest.approx(0.8)
    corrected = search.measured((32, 32, 32), (measured(0.6), measured(1.5)))
    assert corrected.one_ms((32, 32, 32)) == pytest.approx(0.75, rel=1e-4)
