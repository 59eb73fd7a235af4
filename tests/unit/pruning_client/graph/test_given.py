"""What a user may give as a network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from pruning_client.errors import ModelError
from pruning_client.graph.given import given_network


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
