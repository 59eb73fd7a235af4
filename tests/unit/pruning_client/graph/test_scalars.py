"""Scalars that a network learns or keeps."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from latency_service.spaces.slicing import materialise
from pruning_client.graph import comparison, proof
from pruning_client.graph.space import make_space
from pruning_client.graph.surgery import slim

_Use = Callable[[Tensor, Tensor], Tensor]


class WithScalar(nn.Module):
    """A scalar between a stem and a head, learned or kept."""

    def __init__(self, use: _Use, value: Tensor, *, learned: bool) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.inner = nn.Conv2d(8, 8, 1)
        self.head = nn.Conv2d(8, 4, 1)
        self._use = use
        if learned:
            self.scalar = nn.Parameter(value)
        else:
            self.register_buffer("scalar", value)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        out: Tensor = self.head(y + self._use(self.inner(y), self.scalar))
        return out


def power_mean(y: Tensor, p: Tensor) -> Tensor:
    return F.avg_pool2d(y.clamp(min=1e-6).pow(p), 6).pow(1.0 / p)


def bound(y: Tensor, top: Tensor) -> Tensor:
    return torch.minimum(y.relu(), top)


def clipped(y: Tensor, top: Tensor) -> Tensor:
    return torch.clamp(y, torch.zeros(()), top)


def raised(y: Tensor, p: Tensor) -> Tensor:
    return y ** (p + 1)


@pytest.mark.parametrize("learned", [False, True])
@pytest.mark.parametrize(
    ("use", "value"),
    [
        (torch.mul, torch.tensor(0.0)),
        (torch.mul, torch.zeros(1)),
        (torch.div, torch.tensor(64.0)),
        (power_mean, torch.tensor(3.0)),
        (power_mean, torch.tensor([3.0])),
        (bound, torch.tensor(6.0)),
        (clipped, torch.tensor(6.0)),
        (raised, torch.tensor(1.0)),
    ],
)
def test_a_scalar_leaves_the_widths_and_follows_the_network(
    use: _Use, value: Tensor, learned: bool
) -> None:
    model = WithScalar(use, value, learned=learned).eval()
    traced = make_space(model, torch.randn(2, 3, 8, 8))
    assert [(group.name, group.width) for group in traced.space.groups] == [("stem.0", 8)]
    with torch.no_grad():
        model.scalar.add_(1)
    keep = proof.random_keep(traced.space)
    removed = materialise(
        traced.space,
        [len(channels) for channels in keep],
        keep=keep,
        weights=proof.weights_of(model, traced.weights),
    )
    small = slim(model, traced, keep)
    found = proof.run_onnx(removed, traced.example)
    assert comparison.agree(proof.run_torch(small, traced.example), found)
    assert np.isfinite(found[0]).all()


class BoundWithCounts(WithScalar):
    """A learned bound, and channel counts in the forward pass."""

    def forward(self, x: Tensor) -> Tensor:
        y = clipped(self.stem(x).view(-1, 8, 36).view(-1, 8, 6, 6), self.scalar)
        out: Tensor = self.head(y)
        return out


def test_a_graph_learns_the_bound() -> None:
    model = BoundWithCounts(clipped, torch.tensor(0.1), learned=True).eval()
    traced = make_space(model, torch.randn(2, 3, 8, 8))
    small = slim(model, traced, proof.random_keep(traced.space))
    assert not isinstance(small, WithScalar)
    small(torch.randn(2, 3, 8, 8)).sum().backward()
    learned = small.get_parameter("scalar").grad
    assert learned is not None
    assert learned.abs() > 0
