"""Patterns of filters whose best input is known, and contributions against autograd."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pruning_client.data.sources import as_batches
from pruning_client.errors import UsageError
from pruning_client.graph.space import Traced, make_space
from pruning_client.latency.predictor import Predictor
from pruning_client.methods.base import Context
from pruning_client.methods.functionality import contribution, patterns
from pruning_client.methods.functionality.method import Functionality
from pruning_client.methods.functionality.patterns import find_patterns
from tests.support import analytic
from tests.support.tiny_networks import Regressor, TinyNet, digits


def context_of(model: nn.Module, data: Any, traced: Traced | None = None) -> Context:
    batches = as_batches(data, batch_size=64)
    inputs = next(batches.ordered()).first(2).inputs
    found = traced or make_space(model, inputs)
    return Context(
        model=model,
        traced=found,
        train=batches,
        predictor=analytic.predictor(found.space),
        target_ms=1.0,
    )


def test_the_pattern_of_a_linear_filter_is_its_weights() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 12), nn.ReLU(), nn.Linear(12, 3)).eval()
    with torch.no_grad():
        model[0].weight[5] = model[0].weight[2]
        model[0].weight[7] = 0
    data = (torch.randn(64, 20), torch.arange(64) % 3)
    # few steps: further on every value is at a bound of the data
    found = find_patterns(context_of(model, data), steps=2)["0"]
    weights = model[0].weight.detach()
    likeness = torch.cosine_similarity(found, weights, dim=1)
    others = torch.arange(12) != 7
    assert float(likeness[others].min()) > 0.9
    assert torch.equal(found[5], found[2])
    assert not found[7].any(), "nothing excites it"


def test_patterns_excite_their_own_filters(trained: TinyNet, traced: Traced) -> None:
    """A step along a pattern raises its own filter more than the pattern of another one does."""
    made = context_of(trained, digits(), traced)
    found = find_patterns(made, steps=12)
    start = next(made.train.ordered()).inputs[0].mean(0, keepdim=True)
    with torch.no_grad():
        hidden = torch.relu(trained.bn(trained.conv(start + 2 * found["block.conv1"])))
        response = trained.block.conv1(hidden).mean((2, 3))
    assert int((response.argmax(0) == torch.arange(16)).sum()) >= 12


def test_contributions_are_mean_absolute_gradients(trained: TinyNet, traced: Traced) -> None:
    model = copy.deepcopy(trained)
    made = context_of(model, digits(), traced)
    model.zero_grad()
    found = contribution.contributions(made, 1)
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    batch = next(made.train.shuffled(0))
    inner = next(p.group for p in traced.producers if p.module == "block.conv1")
    first = torch.relu(model.bn(model.conv(batch.inputs[0])))
    activation = model.block.bn1(model.block.conv1(first)).detach().requires_grad_()
    after = torch.relu(model.block.bn2(model.block.conv2(activation.relu())) + first)
    scores = model.fc(after.mean((2, 3)))
    scores.softmax(1).gather(1, batch.target[:, None]).sum().backward()
    expected = activation.grad.abs().mean((0, 2, 3)).numpy()
    np.testing.assert_allclose(found[inner], expected / expected.mean(), rtol=1e-3)


def test_contributions_without_classes() -> None:
    """The dead channel of the regressor contributes nothing."""
    model = Regressor().eval()
    images, _ = digits()
    data = (images[:64], {"map": torch.rand(64, 1, 8, 8), "mean": torch.rand(64, 1)})
    made = context_of(model, data)
    found = contribution.contributions(made, 1)
    second = next(p.group for p in made.traced.producers if p.module == "second")
    assert int(found[second].argmin()) == 3
    assert found[second][3] == 0


@pytest.mark.parametrize("sides", [(50,), (40, 8), (8, 33, 5)])
def test_large_patterns_are_averaged(sides: tuple[int, ...]) -> None:
    found = patterns._small(torch.full((2, 3, *sides), 2.0))
    assert found.shape == (2, 3, *(min(side, 32) for side in sides))
    assert bool((found == 2).all())


class Words(nn.Module):
    """Reads integers only."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(9, 8)
        self.fc = nn.Linear(8, 8)
        self.out = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.fc(self.table(x).mean(1)).relu())


def test_integers_cannot_be_changed_by_a_gradient(traced: Traced, predictor: Predictor) -> None:
    data = (torch.randint(0, 9, (32, 5)), torch.arange(32) % 3)
    made = Context(
        model=Words().eval(),
        traced=replace(traced, example=(data[0][:2],)),
        train=as_batches(data),
        predictor=predictor,
        target_ms=1.0,
    )
    with pytest.raises(UsageError, match="integers only"):
        Functionality().check(made)
