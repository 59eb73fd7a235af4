"""Modules and tensors with two names."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pruning_client.graph import comparison, proof
from pruning_client.graph.restore import restore
from pruning_client.graph.space import make_space
from pruning_client.graph.surgery import slim


def images() -> Tensor:
    return torch.randn(2, 3, 8, 8)


class Shift(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bias


class Renamed(nn.Module):
    """Calls modules by their second name."""

    def __init__(self, *, leaks: bool = False) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), Shift())
        self.features = nn.Sequential(*self.net)
        self.last = nn.Conv2d(8, 4, 1)
        self._leaks = leaks

    def forward(self, x: Tensor) -> Tensor:
        y = self.features(x)
        out: Tensor = self.last(y.sigmoid() if self._leaks else y)
        return out


def test_a_module_has_the_name_that_torch_lists() -> None:
    model = Renamed().eval()
    traced = make_space(model, images())
    assert [(group.name, group.members) for group in traced.space.groups] == [("net.0", ["net.0"])]
    assert list(traced.space.manifest.unprunable) == ["last"]
    keep = proof.random_keep(traced.space)
    small = slim(model, traced, keep)
    assert isinstance(small, Renamed)
    assert small.features[0] is small.net[0]
    whole = restore(model, traced, keep, small)
    with proof.gated(whole, traced.gates, keep):
        found = proof.run_torch(whole, traced.example)
    assert comparison.agree(proof.run_torch(small, traced.example), found)


def test_a_fault_behind_a_module_with_two_names_is_told() -> None:
    left = make_space(Renamed(leaks=True).eval(), images()).space.manifest.unprunable
    assert "Sigmoid" in left["net.0"]


class TiedWeights(nn.Module):
    """Two layers with one weight, each with its own bias."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 8, 3)
        self.b.weight = self.a.weight
        self.last = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([self.a(x), self.b(x.flip(-1))], 1)
        out: Tensor = self.last(y.relu())
        return out


def test_tied_weights_are_restored() -> None:
    model = TiedWeights().eval()
    traced = make_space(model, images())
    keep = proof.random_keep(traced.space)
    small = slim(model, traced, keep)
    with torch.no_grad():
        small.get_parameter("a.weight").add_(1)
    whole = restore(model, traced, keep, small)
    assert isinstance(whole, TiedWeights)
    assert whole.a.weight is whole.b.weight
    with proof.gated(whole, traced.gates, keep):
        found = proof.run_torch(whole, traced.example)
    assert comparison.agree(proof.run_torch(small, traced.example), found)
