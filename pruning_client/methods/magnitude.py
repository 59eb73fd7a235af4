"""Baselines without training: L1 magnitude with an allocator, and uniform widths."""

from __future__ import annotations

import numpy as np
from torch import nn

from pruning_client.allocators import ALLOCATORS, fit
from pruning_client.config import AllocatorName
from pruning_client.groups import Traced
from pruning_client.methods.base import Context, Floats, Selection, best_channels
from pruning_client.methods.gates import filters_of


def l1_scores(model: nn.Module, traced: Traced) -> list[Floats]:
    """For each channel [G][C] the mean absolute weight of its filters, summed over the members of the group.

    Criterion of Li et al., "Pruning filters for efficient ConvNets" (ICLR 2017), with a mean in place of the sum so
    that layers of different fan-in compare.
    """
    scores = [np.full(group.width, 1e-12) for group in traced.space.groups]
    for producer in traced.producers:
        magnitude = filters_of(model, producer.module).detach().abs().mean(1).double().cpu().numpy()
        np.add.at(scores[producer.group], producer.channels, magnitude[producer.filters])
    return scores


class Magnitude:
    """L1 magnitude; the allocator turns scores into widths (`threshold`, `uniform` or `greedy`).

    Args:
        allocator: this one whatever the configuration says.
    """

    def __init__(self, allocator: AllocatorName | None = None) -> None:
        self._allocator = allocator

    def run(self, context: Context) -> Selection:
        """Score, allocate, and use up what the allocator leaves of the budget."""
        scores, predictor = l1_scores(context.model, context.traced), context.predictor
        normalised = [score / score.mean() for score in scores]
        allocate = ALLOCATORS[self._allocator or context.config.allocator]
        widths = allocate(normalised, predictor.latency_ms, predictor.lattice, context.target_ms)
        widths = fit(widths, normalised, predictor.latency_ms, predictor.lattice, context.target_ms)
        return Selection(keep=best_channels(normalised, widths), scores=normalised)
