"""Networks with one construct between two convolutions, and a check of all forms of them."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from latency_service.spaces.slicing import materialise
from pruning_client.graph import comparison, proof
from pruning_client.graph.space import Traced, make_space
from pruning_client.graph.surgery import slim
from tests.support.networks import randomised


def images(channels: int = 3) -> Tensor:
    return torch.randn(2, channels, 8, 8, generator=torch.Generator().manual_seed(0))


def between(*middle: nn.Module, width: int = 8, after: int | None = None) -> nn.Module:
    """A network with a construct between two convolutions."""
    first = nn.Conv2d(3, width, 3, padding=1)
    last = nn.Conv2d(width if after is None else after, 4, 1)
    return randomised(nn.Sequential(first, *middle, last))


def slimmed(model: nn.Module) -> tuple[Traced, nn.Module]:
    """The search space of a network, and the network at random widths; see `checked`."""
    traced = make_space(model, images(), minimum=1)
    return traced, checked(model, traced)


def checked(model: nn.Module, traced: Traced) -> nn.Module:
    """The network at random widths, after a check that all forms of it compute the same."""
    keep = proof.random_keep(traced.space, seed=3)
    widths = [len(channels) for channels in keep]
    assert widths != traced.space.full_widths
    graph = materialise(traced.space, widths, keep=keep, weights=traced.weights)
    wanted = proof.run_onnx(graph, traced.example)
    small = slim(model, traced, keep)
    assert comparison.agree(wanted, proof.run_torch(small, traced.example))
    with proof.gated(model, traced.gates, keep):
        assert comparison.agree(wanted, proof.run_torch(model, traced.example))
    return small


def widths_of(traced: Traced) -> dict[str, int]:
    return {group.name: group.width for group in traced.space.groups}
