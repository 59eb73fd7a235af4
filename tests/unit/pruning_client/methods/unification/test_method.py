"""`WeightUnification` as a method: its options, and a training loop of the user's own."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pruning_client.errors import UsageError
from pruning_client.graph.space import Traced
from pruning_client.latency.predictor import Predictor
from pruning_client.methods.base import Context
from pruning_client.methods.unification.compression import unifiable
from pruning_client.methods.unification.method import WeightUnification
from pruning_client.training.config import Training
from pruning_client.training.hooks import GateTraining, Recipe
from tests.support.method_contexts import digits_context
from tests.support.tiny_networks import TinyNet, tiny_net


@pytest.fixture
def context(trained: TinyNet, traced: Traced, predictor: Predictor) -> Context:
    return digits_context(trained, traced, predictor, 0.6)


def test_smaller_blocks_do_not_prune(context: Context) -> None:
    before = copy.deepcopy(context.model.state_dict())
    with pytest.raises(UsageError, match="not the network faster") as caught:
        WeightUnification(block=(2, 4)).run(context)
    assert "compress" in caught.value.cure
    assert all(torch.equal(v, before[k]) for k, v in context.model.state_dict().items())


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"block": (0, 4)}, "has no weights"),
        ({"zeros": 1.0}, "no share below 1"),
        ({"epochs": 0}, "at least 1"),
        ({"updates": 0}, "at least 1"),
        ({"rho": 0.0}, "penalty"),
        ({"rho_growth": 0.5}, "penalty"),
        ({"momentum": 1.0}, "SGD would not move"),
    ],
)
def test_options_out_of_range(options: dict[str, Any], fault: str) -> None:
    with pytest.raises(UsageError, match=fault):
        WeightUnification(**options)


def test_a_training_loop_of_the_users_own(context: Context) -> None:
    seen = list[float]()

    def train(model: nn.Module, gates: GateTraining) -> None:
        optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
        while gates.done < gates.steps:
            for batch in context.train.shuffled(0):
                optimiser.zero_grad()
                (F.cross_entropy(model(*batch.inputs), batch.target) + gates.loss()).backward()
                optimiser.step()
                gates.step()
                seen.append(float(gates.residual))  # type: ignore[attr-defined]

    recipe = Recipe(train=train)
    selection = WeightUnification(epochs=1).run(replace(context, training=Training(recipe=recipe)))
    assert context.predictor.one_ms(selection.widths) <= context.target_ms
    assert seen[-1] < 0.7 * seen[0]
    assert not context.model.training


def test_layers_that_stay_as_they_are() -> None:
    model = tiny_net()
    assert list(unifiable(model, WeightUnification())) == [
        "conv.weight",
        "block.conv1.weight",
        "block.conv2.weight",
        "fc.weight",
    ]
    model.conv.requires_grad_(False)
    dense = WeightUnification(dense_layers=("fc",))
    assert list(unifiable(model, dense)) == ["block.conv1.weight", "block.conv2.weight"]
    with pytest.raises(UsageError, match="no layer 'head'") as caught:
        unifiable(model, WeightUnification(dense_layers=("head",)))
    assert "block.conv1" in caught.value.cure
    with pytest.raises(UsageError, match="no layer whose weights"):
        unifiable(nn.Sequential(nn.ReLU()), WeightUnification())
