"""Which weights are generated, from which scales, and what generators cost."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from pruning_client.errors import ModelError, UsageError
from pruning_client.graph.space import Traced, make_space
from pruning_client.methods.meta_pruning.generators import (
    check_memory,
    generated_weights,
    make_generators,
)
from tests.support.families import traced_family
from tests.support.tiny_networks import TinyNet


def test_a_weight_is_generated_from_the_groups_that_its_axes_follow(
    trained: TinyNet, traced: Traced
) -> None:
    stem, inside = (
        next(entry.group for entry in traced.producers if entry.module == name)
        for name in ("conv", "block.conv1")
    )
    found = {weight.name: set(weight.groups) for weight in generated_weights(trained, traced)}
    assert found == {
        "conv.weight": {stem},
        "block.conv1.weight": {stem, inside},
        "block.conv2.weight": {stem, inside},
        "fc.weight": {stem},
    }


def test_a_concatenation_gives_a_weight_the_scales_of_all_its_groups() -> None:
    model, traced = traced_family("densenet")
    found = {weight.name: weight.groups for weight in generated_weights(model, traced)}
    assert max(len(groups) for groups in found.values()) > 2


def test_frozen_weights_are_not_generated(trained: TinyNet, traced: Traced) -> None:
    model = copy.deepcopy(trained)
    model.block.conv1.weight.requires_grad_(False)
    assert "block.conv1.weight" not in [one.name for one in generated_weights(model, traced)]
    model.requires_grad_(False)
    with pytest.raises(ModelError, match="No weight of TinyNet can be generated"):
        generated_weights(model, traced)


def test_weights_that_are_computed_from_others_are_not_generated() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 8, 3)), nn.ReLU(), nn.Conv2d(8, 4, 3)
    )
    traced = make_space(model, torch.zeros(2, 1, 8, 8))
    assert [one.name for one in generated_weights(model, traced)] == ["2.weight"]


@pytest.mark.parametrize("rank", [None, 2])
def test_generators_start_without_a_change_and_learn_one(
    rank: int | None, trained: TinyNet, traced: Traced
) -> None:
    weights = generated_weights(trained, traced)
    like = torch.zeros(())
    for weight, generator in zip(weights, make_generators(weights, 8, rank, like), strict=True):
        scales = torch.full((len(weight.groups),), 0.5)
        change = generator(scales)
        assert change.shape == weight.shape
        assert not change.any()
        wanted = torch.ones(weight.shape)
        optimiser = torch.optim.SGD(generator.parameters(), lr=0.01)
        for _ in range(2):
            optimiser.zero_grad()
            (generator(scales) * wanted).sum().neg().backward()
            optimiser.step()
        assert (generator(scales) * wanted).sum() > 0


def test_too_large_generators_are_refused_with_what_they_need(
    trained: TinyNet, traced: Traced
) -> None:
    weights = generated_weights(trained, traced)
    like = torch.zeros(())
    numbers = 16 * 9 + 2 * 16 * 16 * 9 + 160
    needed_gb = 3 * 4 * 32 * numbers / 2**30
    check_memory(weights, 32, None, 1.01 * needed_gb, like)
    with pytest.raises(UsageError, match=r"need 0\.00176 GB.*rank=8"):
        check_memory(weights, 32, None, 0.99 * needed_gb, like)
    check_memory(weights, 32, 2, 0.4 * needed_gb, like)
