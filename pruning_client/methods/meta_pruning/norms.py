"""Scales and shifts of batch norms that depend on the widths."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from pruning_client.graph.traced import Traced
from pruning_client.methods.meta_pruning.generators import followed_axes
from pruning_client.training.batch_norm import is_frozen


class ScaledVector(nn.Module):
    """One value of a norm's scale or shift [P] for each width of the group of each position."""

    def __init__(self, name: str, start: Tensor, groups: Tensor, rows: int) -> None:
        super().__init__()
        #: Name of the parameter that it replaces, as in `named_parameters`.
        self.name = name
        self._groups = groups.to(start.device)
        self._positions = torch.arange(len(start), device=start.device)
        # one axis, as the scale itself has: weight decay leaves vectors alone
        self.values = nn.Parameter(start.detach().repeat(rows))

    def forward(self, places: Tensor) -> Tensor:
        """Values [P] at the places [G] of the widths; positions that are never removed have one
        value.
        """
        rows = torch.where(self._groups >= 0, places[self._groups], 0)
        return self.values[rows * len(self._positions) + self._positions]


def scaled_vectors(model: nn.Module, traced: Traced, sizes: Sequence[int]) -> list[ScaledVector]:
    """A `ScaledVector` for every trainable scale and shift of a batch norm on prunable channels.

    Args:
        sizes: Number of widths of each group [G].
    """
    found: dict[str, ScaledVector] = {}
    for name, owner, follows in followed_axes(model, traced):
        start = model.get_parameter(name)
        is_norm = isinstance(owner, nn.modules.batchnorm._BatchNorm) and not is_frozen(owner)
        if is_norm and start.requires_grad and name not in found:
            found[name] = ScaledVector(name, start, torch.as_tensor(follows), max(sizes))
    return list(found.values())
