"""Wider networks compute the same, learn different things in their copies, and can be pruned."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pruning_client.errors import UsageError
from pruning_client.graph import proof, widening
from pruning_client.graph.errors import WideningError
from pruning_client.graph.space import make_space
from pruning_client.graph.surgery import slim
from pruning_client.graph.widening import agree, copies_of, widen, widened, widths_before
from tests.support.families import traced_family
from tests.support.tiny_networks import TinyNet, tiny_net

TRIED = (
    "residual",
    "cifar-resnet",
    "vgg",
    "mobilenet-v3",
    "densenet",
    "regnet",
    "unet",
    "pixel-shuffle",
    "shufflenet",
    "used-twice",
)


@pytest.fixture
def images() -> Tensor:
    return torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("family", TRIED)
def test_outputs_are_equal(family: str) -> None:
    model, traced = traced_family(family)
    wide = widened(model, traced)
    wanted = proof.run_torch(model.eval(), traced.example)
    assert agree(wanted, proof.run_torch(wide.eval(), traced.example))


@pytest.mark.parametrize("family", ["residual", "densenet", "cifar-resnet"])
def test_groups_are_twice_as_wide_and_can_be_pruned_to_what_they_were(family: str) -> None:
    model, traced = traced_family(family)
    wide = widened(model, traced)
    again = make_space(wide, traced.example, minimum=2)
    before = {group.name: group.width for group in traced.space.groups}
    assert {group.name: group.width for group in again.space.groups} == {
        name: 2 * width for name, width in before.items()
    }
    widths = widths_before(traced, again)
    assert dict(zip([g.name for g in again.space.groups], widths, strict=True)) == before
    small = slim(wide, again, [np.arange(width) for width in widths])
    sizes = [value.shape for value in small.state_dict().values()]
    assert sizes == [value.shape for value in model.state_dict().values()]


@pytest.mark.parametrize(("factor", "width"), [(1.0, 16), (1.5, 24), (3.0, 48)])
def test_any_factor(factor: float, width: int, images: Tensor) -> None:
    model = tiny_net().eval()
    wide = widen(model, images, factor=factor)
    assert isinstance(wide, TinyNet)
    assert wide.conv.out_channels == wide.block.bn1.num_features == wide.fc.in_features == width
    assert wide.fc.out_features == 10
    assert agree(proof.run_torch(model, (images,)), proof.run_torch(wide, (images,)))


def test_copies_are_spread_evenly(images: Tensor) -> None:
    copies = copies_of(make_space(tiny_net(), images), 1.25)
    assert copies[0].tolist() == [1, 1, 1, 2] * 4


def test_the_model_itself_does_not_change(images: Tensor) -> None:
    model = tiny_net()
    before = copy.deepcopy(model.state_dict())
    wide = widen(model, images)
    assert model.training
    assert wide.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_copies_learn_different_things(images: Tensor) -> None:
    """With equal shares their gradients would be equal for ever."""
    wide = widen(tiny_net(), images)
    optimiser = torch.optim.SGD(wide.parameters(), lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        wide(images).square().sum().backward()
        optimiser.step()
    filters = wide.conv.weight.detach()
    assert not torch.allclose(filters[0::2], filters[1::2], rtol=1e-3)


def test_the_seed_decides_the_shares(images: Tensor) -> None:
    one, same, other = (widen(tiny_net(), images, seed=seed).fc.weight for seed in (0, 0, 1))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_a_network_cannot_be_widened_by_less_than_one(images: Tensor) -> None:
    with pytest.raises(UsageError, match=r"factor of 0\.5"):
        widen(tiny_net(), images, factor=0.5)


class Counting(nn.Module):
    """Its forward pass holds the number of channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).relu().mean((2, 3)).view(-1, 8))


def test_a_hard_coded_count_gives_a_graph_that_can_be_gated(images: Tensor) -> None:
    """The wider form calls the layers, so that hooks on them work."""
    torch.manual_seed(0)
    model = Counting().eval()
    wide = widen(model, images)
    assert not isinstance(wide, Counting)
    assert wide.get_submodule("conv").out_channels == 16
    assert agree(proof.run_torch(model, (images,)), proof.run_torch(wide, (images,)))
    assert [group.width for group in make_space(wide, images).space.groups] == [16]


def test_a_network_that_cannot_be_proven_is_refused(
    images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsplit(*_: object) -> None:
        """Copies whose readers add them up."""

    monkeypatch.setattr(widening, "_split", unsplit)
    with pytest.raises(WideningError, match="TinyNet cannot be widened"):
        widen(tiny_net(), images)
