"""SCOP end to end on the families, on other inputs, and stopped and continued."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pruning_client.execution.journal import Journal
from pruning_client.graph.space import make_space
from pruning_client.methods.base import Context
from pruning_client.methods.scop import SCOP
from pruning_client.training.config import Training
from pruning_client.training.hooks import Recipe
from tests.support import analytic
from tests.support.method_contexts import FAMILIES, family_context, random_batches


def check(method: SCOP, context: Context) -> None:
    selection = method.run(context)
    assert context.predictor.one_ms(selection.widths) <= context.target_ms
    for keep, choices, score in zip(
        selection.keep, context.predictor.lattice, selection.scores, strict=True
    ):
        assert len(keep) in choices
        assert np.isfinite(score).all()
        assert float(score.min()) > 0


@pytest.mark.parametrize("family", [*FAMILIES, "regnet"])
def test_every_family_meets_the_budget(family: str) -> None:
    check(SCOP(epochs=1, knockoffs="gaussian"), family_context(family))


def test_several_inputs_and_outputs() -> None:
    recipe = Recipe(loss=lambda outputs, target: functional.cross_entropy(outputs[0], target))
    check(SCOP(epochs=1), family_context("two-streams", training=Training(recipe=recipe)))


def test_images_with_knockoffs_from_a_generator() -> None:
    check(SCOP(epochs=1, generator_steps=3), family_context("residual"))


class Signals(nn.Module):
    """For inputs of one or three dimensions, without batch norm."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        convolution: Any = {1: nn.Conv1d, 3: nn.Conv3d}[dimensions]
        self.first = convolution(2, 8, 3, padding=1)
        self.second = convolution(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.second(self.first(x).relu()).relu().flatten(2).mean(2))


@pytest.mark.parametrize(("dimensions", "shape"), [(1, (2, 12)), (3, (2, 4, 4, 4))])
def test_inputs_that_are_not_images(dimensions: int, shape: tuple[int, ...]) -> None:
    model = Signals(dimensions)
    traced = make_space(model, torch.zeros(2, *shape))
    predictor = analytic.predictor(traced.space)
    made = Context(
        model=model,
        traced=traced,
        train=random_batches([shape]),
        predictor=predictor,
        target_ms=0.5 * (predictor.sidecar.lowest_ms + predictor.sidecar.dense_ms),
    )
    check(SCOP(epochs=1), made)


def test_a_stopped_scaling_is_continued_to_the_same_result(tmp_path: Path) -> None:
    context = family_context("residual")
    method = SCOP(epochs=3, generator_steps=4)
    whole = method.run(replace(context, model=copy.deepcopy(context.model)))

    class Stopped(Exception):
        pass

    def stop(event: Any) -> None:
        if event.phase == "scale" and event.done == 2 * len(context.train) + 1:
            raise Stopped

    with pytest.raises(Stopped):
        method.run(replace(context, journal=Journal(tmp_path), progress=stop))
    resumed = method.run(replace(context, journal=Journal(tmp_path, resume=True)))
    for a, b in zip(resumed.scores, whole.scores, strict=True):
        np.testing.assert_array_equal(a, b)
    assert resumed.history == whole.history
