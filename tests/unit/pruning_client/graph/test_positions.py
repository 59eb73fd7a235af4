"""Channels that the forward pass picks by constant positions are followed there."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from pruning_client.graph import comparison, proof
from pruning_client.graph.widening import widened
from tests.support.constructs import between, slimmed, widths_of

MIXED = [3, 1, 0, 2, 7, 6, 5, 4]


class _Picks(nn.Module):
    def __init__(self, pick: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._pick = pick

    def forward(self, x: Tensor) -> Tensor:
        return self._pick(x)


class _Selects(nn.Module):
    def __init__(self, positions: list[int]) -> None:
        super().__init__()
        self.register_buffer("positions", torch.tensor(positions))

    def forward(self, x: Tensor) -> Tensor:
        return torch.index_select(x, 1, self.get_buffer("positions"))


def doubled_in_place(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, ::2] = y[:, ::2] * 2
    return y


@pytest.mark.parametrize(
    ("module", "after", "widths"),
    [
        (_Picks(lambda x: x[:, MIXED]), 8, [8]),
        (_Picks(lambda x: x[:, [position - 8 for position in MIXED]]), 8, [8]),
        (_Picks(lambda x: x[:, [0, 3, 5, 7]]), 4, [4, 4]),
        (_Picks(doubled_in_place), 8, [4]),
        (_Selects(MIXED), 8, [8]),
        (_Selects([1, 4, 5]), 3, [5, 3]),
        (nn.Sequential(_Selects(MIXED), nn.ReLU(), _Selects(MIXED)), 8, [8]),
    ],
)
def test_channels_are_followed_to_the_positions_where_they_go(
    module: nn.Module, after: int, widths: list[int]
) -> None:
    model = between(module, after=after)
    traced, _ = slimmed(model)
    assert list(widths_of(traced).values()) == widths
    wide = widened(model, traced, factor=2)
    assert comparison.agree(
        proof.run_torch(model, traced.example), proof.run_torch(wide, traced.example), 1e-4
    )


def test_only_a_channel_that_is_taken_alone_stays() -> None:
    gate = _Picks(lambda x: x * x[:, 0].sigmoid().unsqueeze(1))
    traced, _ = slimmed(between(gate))
    assert widths_of(traced) == {"0": 7}
    assert "1 of 8 filters: selected by" in traced.space.manifest.unprunable["0"]
