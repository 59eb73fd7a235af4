"""The widths that keep the most computation for the milliseconds, whatever the weights are."""

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
    """Widths [G] on the lattice within the target with the most multiply-accumulates (allocator D
    from C's end).

    Args:
        latency: predicted, ms.
        lattice: widths of each group, ascending.

    Raises:
        BudgetError: even the narrowest architecture is above the target.
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
    """FLOPs pruning turned round [ours]: of all networks that take so long the one that computes
    most; channels by L1.

    A group's scores add up to the part of all multiply-accumulates that goes with it.
    """

    @property
    def name(self) -> str:
        return "most-macs"

    def run(self, context: Context) -> Selection:
        """Search; the weights only say which channels stay."""
        space = context.traced.space
        predictor = context.predictor
        widths = most_macs(space, predictor.latency_ms, predictor.lattice, context.target_ms)
        full = list(space.full_widths)
        magnitudes = l1_scores(context.model, context.traced)
        dense = float(total_macs(space, full))
        lost = [
            1 - float(total_macs(space, [*full[:g], 0, *full[g + 1 :]])) / dense
            for g in range(len(full))
        ]
        scores = [
            np.maximum(m / m.sum() * part, LEAST_SCORE)
            for m, part in zip(magnitudes, lost, strict=True)
        ]
        return Selection(keep=best_channels(magnitudes, widths), scores=scores)
