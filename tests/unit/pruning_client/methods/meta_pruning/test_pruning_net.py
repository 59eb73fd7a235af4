"""The network with generated weights computes what the really smaller network computes."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from pruning_client.graph.space import Traced
from pruning_client.graph.surgery import slim
from pruning_client.methods.meta_pruning.encodings import scale_grid
from pruning_client.methods.meta_pruning.pruning_net import PruningNet
from tests.support import analytic
from tests.support.families import traced_family
from tests.support.more_networks import inputs_of

FAMILIES = ["residual", "vgg", "mobilenet-v2", "densenet", "hard-coded"]


def random_network(
    model: nn.Module, traced: Traced, *, rank: int | None = None, per_scale: bool = False
) -> PruningNet:
    """With generators that change every weight, and a random order of channels."""
    rng = np.random.default_rng(0)
    full = [group.width for group in traced.space.groups]
    network = PruningNet(
        copy.deepcopy(model),
        traced,
        scale_grid(full, analytic.lattice(traced.space, step=2), 31),
        [rng.permutation(width) for width in full],
        hidden=8,
        rank=rank,
        per_scale=per_scale,
    )
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in [*network.generators.parameters(), *network.vectors.parameters()]:
            parameter += 0.1 * torch.randn_like(parameter)
    return network.eval()


def random_widths(network: PruningNet, seed: int) -> list[int]:
    rng = np.random.default_rng(seed)
    widths: list[int] = network.grid.widths(network.grid.draw(rng, 1)[0]).tolist()
    return widths


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("rank", "per_scale"), [(None, False), (2, True)])
def test_the_outputs_are_those_of_the_smaller_network(
    family: str, rank: int | None, per_scale: bool
) -> None:
    model, traced = traced_family(family)
    network = random_network(model, traced, rank=rank, per_scale=per_scale)
    widths = random_widths(network, seed=1)
    whole = copy.deepcopy(model)
    network.write(widths, whole)
    small = slim(whole, traced, network.channels(widths))
    inputs = inputs_of(model)
    with torch.no_grad():
        expected = small(*inputs)
        found = network(*inputs)
    assert [len(channels) for channels in network.channels(widths)] == widths
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_the_weights_depend_on_the_widths() -> None:
    model, traced = traced_family("residual")
    network = random_network(model, traced, per_scale=True)
    found = []
    for seed in (1, 2):
        network.set_widths(random_widths(network, seed))
        found.append(network.generated())
    assert found[0].keys() == found[1].keys()
    assert {"conv1.weight", "bn1.weight", "bn1.bias", "fc.weight"} <= found[0].keys()
    assert all(not torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_at_first_every_encoding_has_the_networks_own_weights() -> None:
    model, traced = traced_family("mobilenet-v2")
    full = [group.width for group in traced.space.groups]
    grid = scale_grid(full, analytic.lattice(traced.space), 31)
    order = [np.arange(width) for width in full]
    network = PruningNet(
        copy.deepcopy(model), traced, grid, order, hidden=8, rank=None, per_scale=True
    )
    network.set_widths(random_widths(network, 1))
    for name, value in network.generated().items():
        torch.testing.assert_close(value, model.get_parameter(name))


def test_every_parameter_learns() -> None:
    """Generators, vectors of norms, and what is not generated."""
    model, traced = traced_family("densenet")
    network = random_network(model, traced, per_scale=True).train()
    network.set_widths(random_widths(network, 1))
    network(*inputs_of(model)).square().sum().backward()
    learning = {
        name for name, parameter in network.named_parameters() if parameter.grad is not None
    }
    replaced = {f"model.{vector.name}" for vector in network.vectors}
    assert learning == {name for name, _ in network.named_parameters()} - replaced
