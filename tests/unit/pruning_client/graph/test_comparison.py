"""Outputs that hide wrong removals: labels, small units, large means, and other outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pruning_client.graph.comparison import agree, spreads
from pruning_client.graph.space import make_space


def images() -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Leaks(nn.Module):
    """A sigmoid in the forward pass makes something of the zeros of the channels before it."""

    def __init__(self, out: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.leaks = nn.Conv2d(8, 8, 1)
        self.inner = nn.Conv2d(8, 8, 1)
        self.last = nn.Conv2d(8, 4, 1)
        self._out = out

    def forward(self, x: Tensor) -> Any:
        y = torch.sigmoid(self.leaks(self.stem(x).relu()))
        return self._out(self.last(self.inner(y).relu()))


@pytest.mark.parametrize(
    "out",
    [
        lambda y: y.argmax(1),
        lambda y: y.mean((2, 3)).argmax(),
        lambda y: {"label": y.argmax(1), "sure": y > 0.9},
        lambda y: (y > 0).float(),
        lambda y: y.topk(2, 1)[1],
        lambda y: y.max(1),
        lambda y: (y * 10).round(),
        lambda y: y.mean((2, 3)).mul(255).clamp(0, 255).to(torch.uint8),
        lambda y: y * 1e-6,
        lambda y: y + 1e3,
        lambda y: (y.mean((2, 3)) * 10 + 300, y[:, :1] * 1e-4),
        lambda y: torch.cat([y.sigmoid() * 640, y.sigmoid()], 1),
        lambda y: torch.cat([y.sigmoid() * 640, y.sigmoid()], 1).flatten(2).transpose(1, 2),
        lambda y: y.detach(),
    ],
)
def test_wrong_removals_show_in_every_kind_of_output(out: Callable[[Tensor], Any]) -> None:
    traced = make_space(Leaks(out), images())
    assert [group.name for group in traced.space.groups] == ["stem", "inner"]
    assert "Sigmoid" in traced.space.manifest.unprunable["leaks"]


@pytest.mark.parametrize("out", [lambda y: y * 0, torch.zeros_like, lambda y: y * 0 + 5])
def test_nothing_is_offered_that_no_output_shows(out: Callable[[Tensor], Any]) -> None:
    traced = make_space(Leaks(out), images())
    assert not traced.space.groups


def test_one_output_that_is_the_rounding_of_zero_leaves_the_others() -> None:
    traced = make_space(Leaks(lambda y: (y, y.softmax(1).sum(1) - 1)), images())
    assert [group.name for group in traced.space.groups] == ["stem", "inner"]


def test_differences_count_by_the_spread() -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 8), np.float32)
    assert not agree([x * 1e-6], [x * 1.01e-6], fine=True)
    assert agree([x * 1e-6], [x * 1.0001e-6], fine=True)
    assert not agree([x + 1000], [x * 1.1 + 1000], fine=True)
    assert agree([x * 0], [x * 0], fine=True)
    assert not agree([x * 0], [x], fine=True)
    labels: Any = x > 0
    assert not agree([labels], [~labels])
    assert agree([np.array([], np.float32)], [np.array([], np.float32)], fine=True)
    assert spreads(np.zeros((2, 0), np.float32)).shape == (2, 0)


class Switches(Leaks):
    """A mask of channels that can be removed, before labels."""

    def forward(self, x: Tensor) -> Any:
        y = self.leaks(self.stem(x))
        y = torch.where(y > 0, y, 0.1 * y)
        return self._out(self.last(self.inner(y) * (y > 0)))


@pytest.mark.parametrize("out", [lambda y: y, lambda y: y.argmax(1)])
def test_decisions_inside_a_network_leave_its_widths(out: Callable[[Tensor], Any]) -> None:
    traced = make_space(Switches(out), images())
    assert [group.name for group in traced.space.groups] == ["stem", "leaks"]
