"""Places of gates: the paper's where it is exact, and absorption that changes nothing."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from pruning_client.graph.space import Traced, make_space
from pruning_client.methods.gdp.places import find_places
from tests.support.families import traced_family
from tests.support.method_contexts import FAMILIES


def absorbed_as_gated(model: nn.Module, traced: Traced) -> None:
    """Random gates, multiplied while the network runs and into its weights, give one result."""
    inputs = traced.example
    places = find_places(model, traced)
    random = torch.Generator().manual_seed(3)
    values = [
        torch.ones(group.width)
        if name == "binary"
        else 0.5 + torch.rand(group.width, generator=random)
        for group, name in zip(traced.space.groups, places.names, strict=True)
    ]
    gating = places.gates(model, traced)
    gating.set(values)
    absorbed = copy.deepcopy(model)
    places.absorb(absorbed, values)
    with torch.no_grad():
        with gating.attached():
            gated = model(*inputs)
        torch.testing.assert_close(absorbed(*inputs), gated, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(gated, model(*inputs), atol=1e-3)


@pytest.mark.parametrize("family", [*FAMILIES, "regnet", "depth-multiplier"])
def test_families_have_their_gates_before_the_readers(family: str) -> None:
    """As in the paper; the gates can be absorbed there."""
    model, traced = traced_family(family)
    assert set(find_places(model, traced).names) == {"reader"}
    absorbed_as_gated(model, traced)


class Functional(nn.Module):
    """The last layer's weights are used without calling it: no gate can come before it."""

    def __init__(self, *, affine: bool, norm: bool = True) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8, affine=affine) if norm else nn.Identity()
        self.last = nn.Conv2d(8, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.norm(self.conv(x)).relu()
        return nn.functional.conv2d(hidden, self.last.weight, self.last.bias)


@pytest.mark.parametrize(
    ("model", "place"),
    [
        (Functional(affine=True), "producer"),
        (Functional(affine=False, norm=False), "producer"),
        (Functional(affine=False), "binary"),
    ],
)
def test_other_places_where_the_papers_is_not_exact(model: nn.Module, place: str) -> None:
    inputs = (torch.randn(2, 1, 8, 8),)
    traced = make_space(model.eval(), inputs)
    assert find_places(model, traced).names == [place]
    if place == "producer":
        absorbed_as_gated(model, traced)
