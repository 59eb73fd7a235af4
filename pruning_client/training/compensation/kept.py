"""The parts of a network's layers that removal leaves."""

from __future__ import annotations

from collections import Counter

import numpy as np
import torch
from torch import Tensor, nn

from latency_service.core.arrays import Ints
from latency_service.spaces.plan import Keep
from pruning_client.graph.modules import PRODUCERS
from pruning_client.graph.traced import Traced
from pruning_client.training.compensation.patches import PatchLayer, channel_counts


def kept_layers(
    model: nn.Module, traced: Traced, keep: Keep, imitated: Keep | None = None
) -> dict[str, PatchLayer]:
    """The kept part of each layer, by name, apart from layers that share their weights.

    Args:
        model: Full-size network.
        keep: Channels that are kept of each width group [G][width].
        imitated: Channels that the imitated network has; all by default. Outputs outside them have
            nothing to imitate.
    """
    inputs = {reader.module: _kept(reader.group, reader.channel, keep) for reader in traced.readers}
    layers = {}
    for name, module in _own_layers(model).items():
        c_in, c_out = channel_counts(module)
        outputs = _kept_outputs(name, c_out, traced, keep)
        if imitated is not None:
            outputs &= _kept_outputs(name, c_out, traced, imitated)
        layers[name] = PatchLayer(module, inputs.get(name, _all(c_in)), outputs)
    return layers


def _own_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Layers whose weights no other module uses, by name."""
    uses = Counter(
        id(value) for module in model.modules() for value in module.parameters(recurse=False)
    )
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, PRODUCERS) and all(uses[id(p)] == 1 for p in module.parameters())
    }


def _kept_outputs(name: str, count: int, traced: Traced, keep: Keep) -> Tensor:
    """Whether each output channel of a layer is kept [count]."""
    kept = _all(count)
    for producer in traced.producers:
        if producer.module == name:
            own = np.isin(producer.channels, keep[producer.group])
            kept[torch.from_numpy(producer.filters[~own])] = False
    return kept


def _kept(group: Ints, channel: Ints, keep: Keep) -> Tensor:
    """Whether each position [P] is kept; those outside all groups (-1) are."""
    kept = np.ones(len(group), bool)
    for index, channels in enumerate(keep):
        own = group == index
        kept[own] = np.isin(channel[own], channels)
    return torch.from_numpy(kept)


def _all(count: int) -> Tensor:
    return torch.ones(count, dtype=torch.bool)
