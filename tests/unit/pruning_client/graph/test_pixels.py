"""Operators that move, pick or compare pixels leave the channels apart."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tests.support.constructs import between, slimmed, widths_of


class _Function(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._function = function

    def forward(self, x: Tensor) -> Tensor:
        return self._function(x)


class _Unpooled(nn.Module):
    """Pooling, and back to where the largest values were."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = nn.MaxPool2d(2, return_indices=True)
        self.unpool = nn.MaxUnpool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.unpool(*self.pool(x))
        return y


@pytest.mark.parametrize(
    "function",
    [
        lambda x: F.fold(F.unfold(x, 3, padding=1), x.shape[2:], 3, padding=1),
        lambda x: F.unfold(x, 3, padding=1).view(len(x), -1, 9, 64).amax(2).view_as(x),
        lambda x: x * F.grid_sample(x, torch.zeros(len(x), 8, 8, 2), align_corners=True),
        lambda x: x.flatten(2).topk(16, 2)[0].view(len(x), -1, 4, 4),
        lambda x: x.flatten(2).gather(2, x.flatten(2).argsort(2)).view_as(x),
        lambda x: x * x.argmax(2, keepdim=True),
        lambda x: x.cumsum(2),
        lambda x: x - x.amin((2, 3), keepdim=True),
        lambda x: torch.einsum("bchw,bcwk->bchk", x, x),
        lambda x: x * torch.einsum("bchw,bchw->bhw", x, x).unsqueeze(1),
        torch.atan,
        torch.asinh,
        torch.sinh,
    ],
)
def test_channels_go_through_operators_on_pixels(function: Callable[[Tensor], Tensor]) -> None:
    traced, _ = slimmed(between(_Function(function)))
    assert widths_of(traced) == {"0": 8}


def test_channels_go_through_an_unpooling() -> None:
    traced, _ = slimmed(between(_Unpooled()))
    assert widths_of(traced) == {"0": 8}


@pytest.mark.parametrize(
    ("function", "operator"),
    [(lambda x: x / (x.amax() + 1), "ReduceMax"), (lambda x: x.cumsum(1), "CumSum")],
)
def test_what_compares_channels_leaves_the_others(
    function: Callable[[Tensor], Tensor], operator: str
) -> None:
    traced, _ = slimmed(between(nn.Conv2d(8, 6, 1), _Function(function), after=6))
    assert widths_of(traced) == {"0": 8}
    assert operator in traced.space.manifest.unprunable["1"]
