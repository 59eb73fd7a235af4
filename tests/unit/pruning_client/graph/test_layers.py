"""Layers whose weights are computed, whose outputs nothing reads, and what is no layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, prune

from pruning_client.graph import comparison, proof
from pruning_client.graph.restore import restore
from pruning_client.graph.space import make_space
from pruning_client.graph.surgery import slim

_Layer = Callable[[Any], Any]


def images() -> Tensor:
    return torch.randn(2, 3, 8, 8)


def groups_of(model: nn.Module) -> dict[str, int]:
    """Widths of a network, which keeps its class when it is made smaller and can be restored."""
    model.eval()
    traced = make_space(model, images())
    keep = proof.random_keep(traced.space)
    small = slim(model, traced, keep)
    assert type(small) is type(model)
    whole = restore(model, traced, keep, small)
    with proof.gated(whole, traced.gates, keep):
        wanted = proof.run_torch(whole, traced.example)
    assert comparison.agree(wanted, proof.run_torch(small, traced.example))
    return {group.name: group.width for group in traced.space.groups}


def masked(layer: Any) -> Any:
    return prune.random_unstructured(layer, "weight", 0.3)  # type: ignore[no-untyped-call]


class Computed(nn.Module):
    """Two layers with weights that are computed, the second depthwise, and a linear layer."""

    def __init__(self, layer: _Layer, *, bias: bool) -> None:
        super().__init__()
        self.a = layer(nn.Conv2d(3, 8, 3, bias=bias))
        self.b = layer(nn.Conv2d(8, 8, 3, groups=8, bias=bias))
        self.c = layer(nn.Linear(8, 6, bias=bias))
        self.last = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(self.a(x).relu()).relu().mean((2, 3))
        out: Tensor = self.last(self.c(y).relu())
        return out


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_layers_with_computed_weights_are_layers(bias: bool) -> None:
    assert groups_of(Computed(masked, bias=bias)) == {"a": 8, "c": 6}
    for layer in (nn.utils.weight_norm, parametrizations.weight_norm):
        assert groups_of(Computed(layer, bias=bias)) == {"c": 6}


class Blur(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.ones(8, 1, 3, 3) / 9)
        self.kernel: Tensor

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel, groups=x.shape[1])


class Mixed(nn.Module):
    """Layers of every kind that stays."""

    def __init__(self) -> None:
        super().__init__()
        self.a = parametrizations.spectral_norm(nn.Conv2d(3, 8, 3, bias=False))
        self.blur = Blur()
        self.b = nn.Conv2d(8, 8, 1)
        self.weight = nn.Parameter(torch.randn(4, 8, 1, 1))
        self.c = parametrizations.spectral_norm(nn.Linear(4, 2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.blur(self.a(x).relu())
        y = F.conv2d(F.conv2d(y, self.b.weight * 2).relu(), self.weight)
        out: Tensor = self.c(y.mean((2, 3)))
        return out


def test_the_manifest_lists_layers_only_and_all_of_them() -> None:
    left = make_space(Mixed().eval(), images()).space.manifest.unprunable
    assert list(left) == ["a", "b", "c", "weight"]


class Unread(nn.Module):
    """Layers that are called, but whose outputs nothing reads."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(3, 8, 3)
        self.b = nn.Conv2d(8, 4, 1)
        self.branch = nn.Sequential(nn.Conv2d(8, 6, 1), nn.BatchNorm2d(6), nn.Conv2d(6, 2, 1))
        self.norm = nn.BatchNorm2d(8)
        self.depthwise = nn.Conv2d(8, 16, 3, groups=8)
        self.up = nn.ConvTranspose2d(8, 4, 2)
        self.linear = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x).relu()
        for unread in (self.branch, self.norm, self.depthwise, self.up):
            unread(y)
        self.linear(y.mean((2, 3)))
        out: Tensor = self.b(y)
        return out


def test_layers_that_nothing_reads_follow_the_channels_they_are_given() -> None:
    assert groups_of(Unread()) == {"a": 8}
