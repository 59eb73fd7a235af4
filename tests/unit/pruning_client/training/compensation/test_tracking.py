"""Norms and sums behind layers are found as the network runs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pruning_client.training.compensation.affine import affine_norms
from pruning_client.training.compensation.tracking import Chain, Tracker


class Sums(nn.Module):
    """One residual sum, in one of several ways to write it."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 2, 1)
        self.bn = nn.BatchNorm2d(2)
        self.form = form

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.conv(x))
        match self.form:
            case "+":
                return y + x
            case "reversed":
                return x + y
            case "+=":
                y += x
                return y
            case "add":
                return torch.add(x, y)
            case "add_":
                return y.add_(x)
            case "behind relu_":
                return torch.relu_(y) + x
            case "broadcast":
                return y + x.mean((2, 3), keepdim=True)
            case _:
                return torch.relu(y) + x


def sums_of(form: str) -> list[tuple[Chain, Tensor]]:
    model = Sums(form).eval()
    found: list[tuple[Chain, Tensor]] = []
    tracker = Tracker(
        {"conv": model.conv},
        affine_norms(model),
        lambda _chain, _output: True,
        lambda chain, _operand, other: found.append((chain, other.clone())),
    )
    x = torch.randn(3, 2, 4, 4)
    with tracker.attached(), torch.no_grad():
        model(x)
    assert all(torch.equal(other, x) for _, other in found)
    model(x)
    return found


@pytest.mark.parametrize("form", ["+", "reversed", "+=", "add", "add_"])
def test_every_way_to_write_a_sum_is_found(form: str) -> None:
    assert [chain for chain, _ in sums_of(form)] == [Chain(layer="conv", norm="bn")]


@pytest.mark.parametrize("form", ["behind relu", "behind relu_", "broadcast"])
def test_other_sums_are_left_alone(form: str) -> None:
    assert not sums_of(form)


def test_a_sum_can_be_corrected() -> None:
    def clear(_chain: Chain, operand: Tensor, _other: Tensor) -> None:
        operand.zero_()

    model = Sums("+").eval()
    tracker = Tracker(
        {"conv": model.conv},
        affine_norms(model),
        lambda _chain, _output: True,
        clear,
    )
    x = torch.randn(3, 2, 4, 4)
    with tracker.attached(), torch.no_grad():
        assert torch.equal(model(x), x)
