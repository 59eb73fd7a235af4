"""Scores of channels from the betas of the scaling stage."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from latency_service.core.arrays import Floats
from pruning_client.graph.modules import NORMS, PRODUCERS
from pruning_client.graph.space import Traced
from pruning_client.methods.gates import filters_of
from pruning_client.methods.scop.scaling import ControlledNetwork, SelectionLayer

#: What a channel whose knockoff is as good as itself is worth, relative to the others.
_WORTHLESS = 1e-3


def control_scores(model: nn.Module, traced: Traced, network: ControlledNetwork) -> list[Floats]:
    """Mean over its selection layers of |gamma| (2 beta - 1) for each channel [G][C].

    The score of one layer is that of the public code. Ours are the mean over the layers of a
    group, the division of every layer's |gamma| by its mean, so that layers are comparable, and
    the norm of the filter, or one, where there is no scale gamma.
    """
    totals = [np.zeros(group.width) for group in traced.space.groups]
    counts = [np.zeros(group.width) for group in traced.space.groups]
    for layer, beta in zip(network.layers, network.betas, strict=True):
        scale = _by_channel(_scale(model, layer), layer)
        scores = scale * (2 * beta.detach().double().cpu().numpy() - 1)
        for group in np.unique(layer.group):
            where = layer.group == group
            np.add.at(totals[group], layer.channel[where], scores[where])
            np.add.at(counts[group], layer.channel[where], 1)
    return [total / np.maximum(count, 1) for total, count in zip(totals, counts, strict=True)]


def positive(scores: list[Floats]) -> list[Floats]:
    """Scores [G][C] in the same order, above zero: negative ones are worth almost nothing [ours].

    A channel below zero is one that its knockoff replaces with profit.
    """
    return [
        np.maximum(score, 0) + _WORTHLESS * (score - score.min() + np.abs(score).mean())
        for score in scores
    ]


def _scale(model: nn.Module, layer: SelectionLayer) -> Floats:
    """Size [P] of each position of a module's output relative to the mean: |gamma|, the norm of the
    filter, or one.
    """
    module = model.get_submodule(layer.point.module)
    if isinstance(module, NORMS) and torch.is_tensor(module.weight):
        size: Tensor = module.weight.detach().abs()
    elif isinstance(module, PRODUCERS):
        size = filters_of(model, layer.point.module).detach().norm(dim=1)
    else:
        size = torch.ones(len(layer.index))
    values = size.double().cpu().numpy()
    return np.asarray(values / max(float(values.mean()), np.finfo(np.float64).tiny))


def _by_channel(values: Floats, layer: SelectionLayer) -> Floats:
    """Mean [N] of the values [P] of the positions of each beta."""
    count = len(layer.group)
    known = layer.index < count
    totals = np.bincount(layer.index[known], weights=values[known], minlength=count)
    return np.asarray(totals / np.bincount(layer.index[known], minlength=count))
