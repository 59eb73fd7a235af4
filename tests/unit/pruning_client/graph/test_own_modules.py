"""Layers, filters and shifts that users write themselves are pruned like those of torch."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pruning_client.graph import proof
from pruning_client.graph.space import make_space
from pruning_client.graph.surgery import slim
from tests.support.constructs import between, images, slimmed, widths_of


class _Standardised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((2, 3), keepdim=True)
        return F.conv2d(x, weight, self.bias, padding=1)


class _Norm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(width))
        self.shift = nn.Parameter(torch.zeros(width))
        self.register_buffer("running_mean", torch.zeros(width))
        self.register_buffer("running_var", torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = self.get_buffer("running_mean"), self.get_buffer("running_var")
        return F.batch_norm(x, mean, variance, self.scale, self.shift, self.training)


class _Embedding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.randn(1, 8, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.places


class _Blur(nn.Module):
    """One filter for all channels."""

    def __init__(self, repeats: bool, width: int | None = None) -> None:
        super().__init__()
        self.register_buffer("filter", torch.rand(1, 1, 3, 3))
        self._repeats = repeats
        self._width = width

    def forward(self, x: Tensor) -> Tensor:
        width = self._width or x.shape[1]
        one = self.get_buffer("filter")
        weight = one.repeat(width, 1, 1, 1) if self._repeats else one.expand(width, 1, 3, 3)
        return F.conv2d(x, weight, padding=1, groups=width)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("after", [nn.ReLU(), nn.BatchNorm2d(6)])
def test_a_layer_may_compute_its_weight(bias: bool, after: nn.Module) -> None:
    traced, _ = slimmed(between(_Standardised(8, 6, 3, bias=bias), after, after=6))
    assert widths_of(traced) == {"0": 8, "1": 6}


@pytest.mark.parametrize("module", [_Norm(8), _Embedding(), nn.Threshold(0.1, 20.0)])
def test_gates_stand_behind_modules_that_shift(module: nn.Module) -> None:
    traced, _ = slimmed(between(module))
    assert widths_of(traced) == {"0": 8}
    assert [gate.module for gate in traced.gates if gate.module == "1"]


@pytest.mark.parametrize("repeats", [False, True])
@pytest.mark.parametrize("width", [None, 8])
def test_one_filter_is_repeated_for_each_channel(repeats: bool, width: int | None) -> None:
    traced, _ = slimmed(between(_Blur(repeats, width)))
    assert widths_of(traced) == {"0": 8}


def test_a_network_that_was_delivered_as_a_graph_is_pruned_again() -> None:
    model = between(_Blur(True, 8), nn.Conv2d(8, 10, 1), nn.ReLU(), after=10)
    traced = make_space(model, images(), minimum=1)
    small = slim(model, traced, proof.random_keep(traced.space))
    assert type(small) is not type(model)
    again = make_space(small, images(), minimum=1)
    assert widths_of(again) == {"0": 5, "2": 7}
