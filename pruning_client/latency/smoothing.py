"""A predictor as training needs it: latency on the lattice, with a secant gradient."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from latency_service.core.arrays import Floats32, Ints
from pruning_client.latency.predictor import LatencyEstimate, Predictor, Source

#: Number of lattice widths between a width and either end of its secant.
REACH = 2
#: Shortest run of a secant, in channels; it only keeps a division from failing.
_SHORTEST_RUN = 1e-9
#: Channels by which a width may exceed a lattice width and still be the same.
_TOLERANCE = 1e-4


class SecantSource:
    """Predictions for widths rounded up to the lattice, with secant gradients [ours].

    Latency against width is a staircase (docs/design.md, fact 1). A good predictor follows it, so
    its derivative at a lattice width, the edge of a step, is zero or even negative: a local minimum
    at which gates would stay. The secant from a few lattice widths below to as many above is the
    latency that removing a chunk of channels saves.

    The value is the final one, because every width is rounded up to the lattice.
    """

    def __init__(self, source: Source, lattice: Sequence[Sequence[int]]) -> None:
        self._source = source
        self._lattice = [np.asarray(choices, np.float32) for choices in lattice]

    def evaluate(self, widths: Floats32) -> LatencyEstimate:
        """Predictions for `widths` [B, G]; one evaluation of the predictor with B (2 G + 1)
        vectors.
        """
        position = self._positions(widths)
        centre, below, above = (self._at(position + shift) for shift in (0, -REACH, REACH))
        estimate = self._source.evaluate(_queries(centre, below, above))
        each = 1 + 2 * widths.shape[1]
        latency = estimate.latency_ms.reshape(len(widths), each)
        return LatencyEstimate(
            latency_ms=latency[:, 0],
            gradient=_secants(latency[:, 1:], below, above),
            lower_ms=estimate.lower_ms[::each],
            upper_ms=estimate.upper_ms[::each],
        )

    def _positions(self, widths: Floats32) -> Ints:
        """Position [B, G] of the next lattice width at or above each width."""
        columns = [
            np.searchsorted(choices, widths[:, group] - _TOLERANCE)
            for group, choices in enumerate(self._lattice)
        ]
        return np.stack(columns, axis=1)

    def _at(self, positions: Ints) -> Floats32:
        """Lattice widths [B, G] at positions, which are clipped to the lattice."""
        columns = [
            choices[np.clip(positions[:, group], 0, len(choices) - 1)]
            for group, choices in enumerate(self._lattice)
        ]
        return np.stack(columns, axis=1)


def _queries(centre: Floats32, below: Floats32, above: Floats32) -> Floats32:
    """The width vectors [B (2 G + 1), G] of each centre: itself, and both ends for every group."""
    groups = centre.shape[1]
    moved = np.eye(groups, dtype=bool)
    ends = [np.where(moved, end[:, None], centre[:, None]) for end in (below, above)]
    every = np.concatenate([centre[:, None], *ends], axis=1)
    return np.ascontiguousarray(every.reshape(-1, groups), np.float32)


def _secants(latency: Floats32, below: Floats32, above: Floats32) -> Floats32:
    """Gradient [B, G] of the latencies [B, 2 G] at both ends; 0 where both ends are one width."""
    lower, upper = np.split(latency, 2, axis=1)
    run = above - below
    slopes = (upper - lower) / np.maximum(run, _SHORTEST_RUN)
    return np.where(run > 0, slopes, 0).astype(np.float32)


def with_secant_gradient(predictor: Predictor) -> Predictor:
    """The same predictor with gradients that reach past the steps of its lattice."""
    return Predictor(predictor.view, SecantSource(predictor.source, predictor.lattice))
