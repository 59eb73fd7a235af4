"""What a user may give as a network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pruning_client.errors import ModelError
from pruning_client.graph import proof
from pruning_client.graph.errors import ExportError
from pruning_client.graph.given import given_network
from pruning_client.graph.restore import restore
from pruning_client.graph.space import make_space
from pruning_client.graph.surgery import slim


def images() -> Tensor:
    return torch.randn(2, 3, 8, 8)


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_wrappers_are_removed() -> None:
    model = network()
    assert given_network(model) is model
    assert given_network(nn.DataParallel(model)) is model
    assert given_network(torch.compile(nn.DataParallel(model))) is model


class Scripted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.part = torch.jit.script(network())


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: nn.Flatten, "Flatten is a class"),
        (lambda: network().state_dict(), "a state_dict has weights without operators"),
        (lambda: "network", "str is not a torch network"),
        (nn.ReLU, "ReLU has no parameters"),
        (lambda: torch.jit.script(network()), "it is compiled by torch.jit"),
        (Scripted, "its module 'part' is compiled by torch.jit"),
        (lambda: network().to("meta"), "'0.weight' of Sequential is on the meta device"),
        (lambda: nn.Sequential(nn.LazyLinear(3)), "'0.weight' of Sequential has no shape yet"),
        (lambda: network().half(), "'0.weight' of Sequential is float16"),
        (lambda: network().double(), "is float64"),
        (lambda: nn.Sequential(network(), network().bfloat16()), "'1.0.weight' of .* is bfloat16"),
    ],
)
def test_what_cannot_be_pruned_is_refused_with_a_cure(make: Any, told: str) -> None:
    with pytest.raises(ModelError, match=told) as caught:
        given_network(make())
    assert caught.value.cure


class TakesDictionary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = network()

    def forward(self, batch: dict[str, Tensor]) -> Tensor:
        out: Tensor = self.net(batch["image"])
        return out


@pytest.mark.parametrize("example", [{"image": images()}, ([images()],), torch.tensor(1.0)])
def test_inputs_that_a_graph_lacks_are_refused_with_a_cure(example: Any) -> None:
    with pytest.raises(ExportError, match=r"input 0 of the example is .* wrapper module"):
        make_space(TakesDictionary(), example)


class Keeps(nn.Module):
    """Keeps what it computed, in an attribute and by a hook."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.utils.weight_norm(nn.Conv2d(3, 8, 3))
        self.last = nn.Conv2d(8, 4, 1)
        self.features: list[Tensor] = []
        self.first.register_forward_hook(lambda *call: self.features.append(call[2]))

    def forward(self, x: Tensor) -> Tensor:
        self.hidden = self.first(x).relu()
        out: Tensor = self.last(self.hidden)
        return out


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
def test_a_network_that_keeps_tensors_with_a_history_is_traced_and_left_as_it_is() -> None:
    model = Keeps()
    model(images())
    kept = [model.hidden, *model.features]
    traced = make_space(model, images())
    keep = proof.random_keep(traced.space)
    restore(model, traced, keep, slim(model, traced, keep))
    assert len(model.features) == 1
    assert all(a is b for a, b in zip(kept, [model.hidden, *model.features], strict=True))


def test_a_wrapped_network_is_traced_without_the_wrapper() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))
    traced = make_space(nn.DataParallel(model), images())
    assert [group.name for group in traced.space.groups] == ["0"]
