"""PruningNet: a network whose weights are generated from its widths."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from latency_service.core.arrays import Ints
from pruning_client.graph.traced import Traced
from pruning_client.methods.gates import Gates, masks
from pruning_client.methods.meta_pruning.generators import (
    GeneratedWeight,
    generated_weights,
    make_generators,
)
from pruning_client.methods.meta_pruning.norms import ScaledVector, scaled_vectors
from pruning_client.methods.width_grid import WidthGrid


class PruningNet(nn.Module):
    """A network that computes with generated weights and only the first channels of each group
    (Liu et al., "MetaPruning", ICCV 2019).

    A weight is generated from the scales (width / full width) of the groups that its axes follow.
    Where the published network has the block's input, output and middle, it has the groups that the
    graph analysis ties to the layer [ours]. The forward pass keeps full-size tensors, with closed
    gates at the channels that the widths leave out: its outputs equal those of the smaller network.

    Attributes:
        model: The network.
        grid: Widths of the encodings.
        order: Channels of each group, the one that is removed last first [G][C].

    Args:
        model: Network whose own weights are part of the generated ones, and are trained with them.
        hidden: Width of the generators' hidden layer.
        rank: Rank of the generated changes; None for full ones.
        per_scale: Whether batch norms have a scale and shift of their own for each width.
    """

    def __init__(
        self,
        model: nn.Module,
        traced: Traced,
        grid: WidthGrid,
        order: Sequence[Ints],
        *,
        hidden: int,
        rank: int | None,
        per_scale: bool,
    ) -> None:
        super().__init__()
        like = next(model.parameters())
        self.model = model
        self._weights: list[GeneratedWeight] = generated_weights(model, traced)
        self.generators = nn.ModuleList(make_generators(self._weights, hidden, rank, like.detach()))
        vectors = scaled_vectors(model, traced, grid.sizes.tolist()) if per_scale else []
        self.vectors = nn.ModuleList(vectors)
        self.grid = grid
        self.order = list(order)
        self._full = [group.width for group in traced.space.groups]
        self._gates = Gates(model, traced)
        self.set_widths(self._full)

    def set_widths(self, widths: Sequence[int]) -> None:
        """Set the widths [G] of the next forward passes."""
        like = next(self.model.parameters())
        shares = np.asarray(widths) / self._full
        self._scales = torch.as_tensor(shares).to(like)
        self._places = torch.as_tensor(self.grid.nearest(widths)).to(like.device)
        self._gates.set(masks(self.channels(widths), self._full, self.model))

    def channels(self, widths: Sequence[int]) -> list[Ints]:
        """Channels that widths [G] keep, ascending [G][width]."""
        return [np.sort(order[:width]) for order, width in zip(self.order, widths, strict=True)]

    def generated(self) -> dict[str, Tensor]:
        """Parameters of the network that depend on the widths, at full size, by name."""
        device = self._scales.device.type
        with torch.autocast(device, enabled=False):
            found = {
                weight.name: self._weight(weight, generator)
                for weight, generator in zip(self._weights, self.generators, strict=True)
            }
        for vector in self.vectors:
            assert isinstance(vector, ScaledVector)
            found[vector.name] = vector(self._places)
        return found

    def _weight(self, weight: GeneratedWeight, generator: nn.Module) -> Tensor:
        change: Tensor = generator(self._scales[list(weight.groups)])
        return self.model.get_parameter(weight.name) + change

    @torch.no_grad()
    def write(self, widths: Sequence[int], into: nn.Module) -> None:
        """Write all parameters for widths [G], at full size, into a network of this structure."""
        self.set_widths(widths)
        into.load_state_dict(self.model.state_dict())
        for name, value in self.generated().items():
            into.get_parameter(name).copy_(value)

    def forward(self, *inputs: Any) -> Any:
        with self._gates.attached():
            return functional_call(self.model, self.generated(), inputs)
