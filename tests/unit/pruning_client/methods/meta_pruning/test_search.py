"""The search as part of a job of several processes, and the scores of its result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
import torch

from pruning_client.data.sources import as_batches
from pruning_client.execution.journal import Journal
from pruning_client.graph.space import Traced
from pruning_client.latency.predictor import Predictor
from pruning_client.methods.base import Context
from pruning_client.methods.meta_pruning.evolution import SearchOptions
from pruning_client.methods.meta_pruning.fitness import Fitness
from pruning_client.methods.meta_pruning.search import front_scores, search_widths
from pruning_client.methods.width_grid import WidthGrid
from tests.support import analytic
from tests.support.tiny_networks import TinyNet


class AnswersOfTheFirst(Journal):
    """As in any process but the first: nothing is computed here."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    def value(self, what: str, kind: Any, make: Callable[[], Any]) -> Any:
        self.asked.append(what)
        return [float(len(self.asked))] * 5


def test_other_processes_take_the_fitness_of_the_first(
    trained: TinyNet, traced: Traced, predictor: Predictor
) -> None:
    def evaluated(_widths: list[int]) -> float:
        raise AssertionError("only the first process evaluates")

    evaluated.is_quality = True
    journal = AnswersOfTheFirst()
    context = Context(
        model=trained,
        traced=traced,
        train=as_batches((torch.zeros(2, 1, 8, 8), torch.arange(2))),
        predictor=predictor,
        target_ms=0.6 * predictor.sidecar.dense_ms,
        journal=journal,
    )
    grid = WidthGrid(analytic.lattice(traced.space, step=1))
    options = SearchOptions(generations=2, population=5, parents=2, mutations=2, crossovers=1)
    widths, history = search_widths(context, grid, cast(Fitness, evaluated), options)
    assert journal.asked == ["generation 1 of meta-pruning", "generation 2 of meta-pruning"]
    assert [entry["accuracy"] for entry in history] == [1.0, 2.0]
    assert predictor.one_ms(widths) <= context.target_ms


def test_scores_fall_in_the_order_and_a_millisecond_costs_the_same_in_every_group(
    traced: Traced, predictor: Predictor
) -> None:
    step_one = {"lattice": analytic.lattice(traced.space, step=1)}
    fine = Predictor(analytic.view(predictor.sidecar.model_copy(update=step_one)), predictor.source)
    widths = [12, 8]
    order = [np.random.default_rng(0).permutation(16) for _ in range(2)]
    scores = front_scores(order, widths, fine)
    prices = []
    for group, (score, channels) in enumerate(zip(scores, order, strict=True)):
        np.testing.assert_array_equal(np.argsort(-score), channels)
        assert score.min() > 0
        narrower = [width - (g == group) for g, width in enumerate(widths)]
        saved_ms = fine.one_ms(widths) - fine.one_ms(narrower)
        prices.append(score[channels[widths[group] - 1]] / saved_ms)
    assert prices[0] == pytest.approx(prices[1], rel=0.05)
