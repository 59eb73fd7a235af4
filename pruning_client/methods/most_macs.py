"""Widths that keep the most computation within the budget, independent of the weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from latency_service.core.arrays import Floats, Ints
from latency_service.spaces.layers import total_macs
from latency_service.spaces.slicing import SearchSpace
from pruning_client.methods.allocation import Latency, Lattice, greedy
from pruning_client.methods.annealing import search
from pruning_client.methods.base import LEAST_SCORE, Context, Selection, best_channels
from pruning_client.methods.magnitude import l1_scores


def most_macs(
    space: SearchSpace, latency: Latency, lattice: Lattice, target_ms: float
) -> list[int]:
    """Widths [G] within the target with the most multiply-accumulates: allocator D, from the result
    of C.

    Args:
        latency: Predicted latency, ms.
        lattice: Widths of each group, ascending.

    Raises:
        BudgetError: Even the narrowest architecture is above the target.
    """
    full = list(space.full_widths)
    dense = float(total_macs(space, full))

    def value(widths: Ints) -> Floats:
        return total_macs(space, widths.astype(np.float64)) / dense

    alike = [np.full(width, 1 / width) for width in full]
    return search(
        value, latency, lattice, target_ms, start=greedy(alike, latency, lattice, target_ms)
    )


@dataclass(frozen=True, kw_only=True)
class MostMacs:
    """FLOPs pruning reversed [ours]: of all networks within the latency, the one that computes
    most; channels are ranked by their L1 norm.

    The scores of a group add up to its share of the network's multiply-accumulates.
    """

    @property
    def name(self) -> str:
        return "most-macs"

    def run(self, context: Context) -> Selection:
        """Search for the widths; the weights only decide which channels are kept."""
        space = context.traced.measured.space
        predictor = context.predictor
        widths = most_macs(space, predictor.latency_ms, predictor.lattice, context.target_ms)
        magnitudes = l1_scores(context.model, context.traced)
        scores = [
            np.maximum(magnitude / magnitude.sum() * share, LEAST_SCORE)
            for magnitude, share in zip(magnitudes, _mac_shares(space), strict=True)
        ]
        return Selection(keep=best_channels(magnitudes, widths), scores=scores)


def _mac_shares(space: SearchSpace) -> list[float]:
    """Share [G] of the multiply-accumulates that each group's removal saves."""
    full = list(space.full_widths)
    dense = float(total_macs(space, full))
    return [
        1 - float(total_macs(space, [*full[:g], 0, *full[g + 1 :]])) / dense
        for g in range(len(full))
    ]
