"""Removal costs: the curvature of the distance from the network's own answers."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning_client.data.sources import as_batches
from pruning_client.graph.space import Traced, make_space
from pruning_client.latency.predictor import Predictor
from pruning_client.methods.base import Context
from pruning_client.methods.gates import Gates
from pruning_client.methods.removal_costs import removal_costs
from pruning_client.training.config import Training
from pruning_client.training.hooks import Recipe
from tests.support.tiny_networks import Regressor, TinyNet, digits


def context(model: nn.Module, traced: Traced, predictor: Predictor, **options: Any) -> Context:
    return Context(
        model=model,
        traced=traced,
        train=as_batches(digits(), batch_size=64),
        predictor=predictor,
        target_ms=1.0,
        training=Training(**options),
    )


def test_a_cost_is_the_curvature_of_distillation(
    trained: TinyNet, traced: Traced, predictor: Predictor
) -> None:
    """Closing a gate by a hundredth moves the softened answers by that much of the cost."""
    (images,) = next(iter(as_batches(digits(), batch_size=2000).ordered())).inputs
    gates = Gates(trained, traced)
    eps = 0.01

    def answers(group: int, channel: int, gate: float) -> Tensor:
        open_ones = [torch.ones(16), torch.ones(16)]
        open_ones[group][channel] = gate
        gates.set(open_ones)
        with gates.attached(), torch.no_grad():
            return (trained(images).double() / 3).log_softmax(1)

    costs = removal_costs(context(trained, traced, predictor, temperature=3.0))
    for group in range(2):
        for channel in costs[group].argsort()[-4:].tolist():
            before = answers(group, channel, 1.0)
            after = answers(group, channel, 1 - eps)
            moved = float(F.kl_div(after, before, reduction="batchmean", log_target=True)) / eps**2
            assert float(costs[group][channel]) == pytest.approx(moved, rel=0.3)


def test_the_cost_of_a_dead_channel_is_next_to_nothing(
    trained: TinyNet, traced: Traced, predictor: Predictor
) -> None:
    model = copy.deepcopy(trained)
    inner = next(p.group for p in traced.producers if p.module == "block.conv1")
    with torch.no_grad():
        model.block.bn1.weight[5] = model.block.bn1.bias[5] = 0.0
    costs = removal_costs(context(model, traced, predictor))
    assert int(costs[inner].argmin()) == 5
    assert 0 < float(costs[inner][5]) < 1e-3 * float(torch.cat(costs).mean())


def test_nothing_is_left_behind(trained: TinyNet, traced: Traced, predictor: Predictor) -> None:
    model = copy.deepcopy(trained).train()
    model.zero_grad()
    first = removal_costs(context(model, traced, predictor))
    second = removal_costs(context(model, traced, predictor))
    assert model.training
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(
        torch.equal(value, trained.state_dict()[name]) for name, value in model.state_dict().items()
    )
    assert all(parameter.grad is None for parameter in model.parameters())


def test_networks_without_classes_have_costs_too(predictor: Predictor) -> None:
    """Neither labels nor the recipe's loss are asked for."""

    def never(_answers: Any, _labels: Any) -> Tensor:
        raise AssertionError

    model = Regressor().eval()
    asked = context(model, make_space(model, torch.rand(2, 1, 8, 8)), predictor)
    training = Training(recipe=Recipe(loss=never, evaluate=lambda _: 0.0))
    costs = removal_costs(replace(asked, training=training))
    second = next(p.group for p in asked.traced.producers if p.module == "second")
    assert all(bool(torch.isfinite(cost).all()) for cost in costs)
    assert int(costs[second].argmin()) == 3
    assert float(np.median(costs[second])) > 100 * float(costs[second][3])


def test_few_images_are_computed_at_once_where_memory_is_short(
    trained: TinyNet, traced: Traced, predictor: Predictor
) -> None:
    sizes: list[int] = []
    handle = trained.register_forward_hook(lambda _m, inputs, _o: sizes.append(len(inputs[0])))
    pieces = removal_costs(context(trained, traced, predictor, micro_batch=16))
    assert max(sizes) == 16
    handle.remove()
    whole = removal_costs(context(trained, traced, predictor))
    # other labels are drawn
    found = np.corrcoef(np.log(np.concatenate(pieces)), np.log(np.concatenate(whole)))[0, 1]
    assert found > 0.98
