"""Restoration of a slimmed network to dense size."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from latency_service.spaces.plan import Keep
from latency_service.spaces.slicing import kept_positions
from pruning_client.execution.copies import copied
from pruning_client.graph.export import first_names
from pruning_client.graph.traced import Traced


def restore(dense: nn.Module, traced: Traced, keep: Keep, small: nn.Module) -> nn.Module:
    """A dense-size copy that holds the weights of a slimmed network at the channels it kept.

    Args:
        dense: Dense network; its own weights stay at the channels that were removed.
        keep: Channels kept in each width group [G][width].
        small: Result of `slim(dense, traced, keep)`, possibly trained further.
    """
    whole = copied(dense)
    positions = _kept_by_axis(traced, keep)
    first = first_names(whole)
    state = whole.state_dict()
    with torch.no_grad():
        for name, value in small.state_dict().items():
            # a slimmed graph has constants that the dense network lacks
            if name in first and name in state:
                kept = positions.get(first[name], {})
                # a layer that nothing reads may have lost channels that are not recorded
                if kept or state[name].shape == value.shape:
                    _write(state[name], value, kept)
    return whole


def _kept_by_axis(traced: Traced, keep: Keep) -> dict[str, dict[int, Tensor]]:
    """Positions kept on the axes of each initializer that follow a width group."""
    kept = [np.sort(channels) for channels in keep]
    positions: dict[str, dict[int, Tensor]] = {}
    for _, graph in traced.modes:
        for entry in graph.space.manifest.slices:
            index = torch.as_tensor(kept_positions(entry.segments, kept))
            positions.setdefault(entry.initializer, {})[entry.axis] = index
    return positions


def _write(whole: Tensor, value: Tensor, positions: dict[int, Tensor]) -> None:
    """Copy a small tensor into a dense one, at the positions of each axis that were kept."""
    if not whole.dim():
        whole.copy_(value)
        return
    index = [
        positions.get(axis, torch.arange(size)).to(value.device)
        for axis, size in enumerate(whole.shape)
    ]
    whole[torch.meshgrid(*index, indexing="ij")] = value
