"""Selections of several methods are brought to one measured latency."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from pruning_client.errors import BudgetError
from pruning_client.latency.predictor import LocalSource, Predictor, Widths
from pruning_client.methods.base import Selection
from pruning_client.pipeline.contest.level import ROUNDS, Level, unequal
from tests.support import analytic

SLOPES = np.array([0.0055, 0.006, 0.0065])
FULL = (64, 64, 64)


def predictor() -> Predictor:
    sidecar = analytic.sidecar_of(list(FULL), [list(range(4, 65, 2))] * 3)
    artifact = analytic.quadratic(0.1, SLOPES, np.zeros((3, 3)))
    return Predictor(analytic.view(sidecar), LocalSource(artifact))


def truth(widths: Widths) -> float:
    """Latency in ms: the predictor has the groups the wrong way round."""
    return float(0.15 + 1.1 * SLOPES[::-1] @ widths)


def selection(rng: np.random.Generator, widths: Sequence[int]) -> Selection:
    return Selection(
        keep=[np.arange(width) for width in widths],
        scores=[rng.random(64) + 0.1 for _ in range(3)],
    )


@pytest.mark.parametrize("share", [0.8, 0.5])
def test_contenders_are_brought_to_one_latency(share: float) -> None:
    rng = np.random.default_rng(0)
    asked = list[int]()

    def measure(widths: Sequence[Widths]) -> list[float]:
        asked.append(len(widths))
        level = rng.uniform(0.9, 1.1)  # of this process
        return [level * rng.normal(1, 0.002) * truth(one) for one in [FULL, *widths]]

    chosen = ([40, 40, 40], [64, 48, 8], [8, 48, 64], [16, 16, 16])
    selections = [selection(rng, widths) for widths in chosen]
    found = Level(predictor=predictor(), share=share).reach(selections, measure)
    reached = [widths for widths in found if not isinstance(widths, BudgetError)]
    assert len(set(reached)) == 4
    shares = [truth(widths) / truth(FULL) for widths in reached]
    assert shares == pytest.approx([share] * 4, rel=0.01)
    assert 2 <= len(asked) <= ROUNDS
    assert set(asked) == {4}, "all side by side, every time"


def test_a_contender_that_stays_too_slow_has_failed_and_the_others_go_on() -> None:
    rng = np.random.default_rng(0)
    selections = [selection(rng, [40, 40, 40]), selection(rng, [16, 16, 16])]
    slow = tuple(selections[0].widths)

    def measure(widths: Sequence[Widths]) -> list[float]:
        # whatever the first one becomes, it is as slow as the full network
        first = [truth(FULL)] if len(widths) == 2 else []
        return [truth(FULL), *first, *map(truth, widths[len(first) :])]

    failed, reached = Level(predictor=predictor(), share=0.3).reach(selections, measure)
    assert isinstance(failed, BudgetError), (slow, failed)
    assert not isinstance(reached, BudgetError)
    assert truth(reached) / truth(FULL) == pytest.approx(0.3, rel=0.01)


def test_networks_unlike_the_others_are_found() -> None:
    assert unequal(0.5, 2.0, [1.0, 1.005, 0.995, 1.009]) == []
    assert unequal(0.5, 2.0, [1.0, 1.03, 1.0, 0.98, 1.001]) == [1, 3]
    assert unequal(0.5, 2.0, [1.03, 1.031, 1.029]) == [0, 1, 2]
