"""A graph as a module: copies, whole modules in files, and state."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pruning_client.graph import checkpoint, comparison, proof
from pruning_client.graph.export import trace
from pruning_client.graph.graph_network import GraphNetwork
from pruning_client.graph.space import make_space
from pruning_client.graph.surgery import slim
from pruning_client.graph.widening import widen


class Counts(nn.Module):
    """Channel counts in the forward pass, constants, and a layer that nothing uses."""

    def __init__(self, *, more: bool = False) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16))
        self.unused = nn.Linear(3, 3)
        self.last = nn.Conv2d(16, 4, 1)
        self._more = more

    def forward(self, picture: Tensor) -> Any:
        y = self.first(picture).relu().view(-1, 16, 36).view(-1, 16, 6, 6)
        z = self.last(y * torch.linspace(0.5, 1.5, 36).view(6, 6))
        return (z, 2 * z) if self._more and self.training else z


def stored(network: nn.Module) -> Any:
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize(
    "again",
    [copy.deepcopy, stored],
)
@pytest.mark.parametrize("more", [False, True])
def test_a_copy_is_the_same_network(
    again: Callable[[nn.Module], nn.Module], more: bool, tmp_path: Path
) -> None:
    model = Counts(more=more).eval()
    x = torch.randn(2, 3, 8, 8)
    traced = make_space(model, x)
    keep = proof.random_keep(traced.space)
    small = slim(model, traced, keep)
    assert isinstance(small, GraphNetwork)
    assert list(small.state_dict()) == list(model.state_dict())
    twin = again(small)
    assert list(twin.state_dict()) == list(model.state_dict())
    for training in (False, True):
        wanted, found = small.train(training)(x), twin.train(training)(x)
        assert comparison.agree(proof.arrays(wanted), proof.arrays(found))
    with torch.no_grad():
        twin.get_parameter("last.weight").zero_()
    assert small.get_parameter("last.weight").abs().sum() > 0
    path = checkpoint.save(twin.eval(), traced, keep, tmp_path / "small.safetensors")
    loaded = checkpoint.load(model, path, traced=traced)
    assert comparison.agree(proof.run_torch(loaded, (x,)), proof.run_torch(twin, (x,)))
    assert [entry.name for entry in trace(twin, x).graph.input] == ["picture"]


def test_a_wider_graph_can_be_traced_and_copied() -> None:
    x = torch.randn(2, 3, 8, 8)
    wide = widen(Counts().eval(), x)
    assert isinstance(wide, GraphNetwork)
    assert [(group.name, group.width) for group in make_space(stored(wide), x).space.groups] == [
        ("first.0", 32)
    ]
