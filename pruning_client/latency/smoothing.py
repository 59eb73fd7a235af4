"""A predictor as training needs it: latency at the lattice, and slopes that see past its steps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from latency_service.core.arrays import Floats32, Ints
from pruning_client.latency.predictor import LatencyEstimate, Predictor, Source

#: How many lattice widths below and above a slope reaches.
REACH = 2


class EnvelopeSource:
    """Predictions for widths rounded up to the lattice, with slopes between lattice widths around
    them [ours].

    Latency against width is a staircase (docs/design.md, fact 1). A good predictor follows it, so
    its derivative at a width of the lattice, the edge of a step, is zero or even negative: a local
    minimum at which gates would stay. The slope from a few lattice widths below to as many above
    says what removing a chunk of channels is worth.

    The value is what comes out in the end, since every width goes to the next wider one of the
    lattice.
    """

    def __init__(self, source: Source, lattice: Sequence[Sequence[int]]) -> None:
        self._source = source
        self._lattice = [np.asarray(choices, np.float32) for choices in lattice]

    def evaluate(self, widths: Floats32) -> LatencyEstimate:
        """Predictions for `widths` [B, G]; one evaluation of the predictor with B (2 G + 1)
        vectors.
        """
        at = self._positions(widths)
        centre, below, above = (self._at(at + shift) for shift in (0, -REACH, REACH))
        groups = len(self._lattice)
        eye = np.eye(groups, dtype=bool)
        lower = np.where(eye, below[:, None, :], centre[:, None, :])
        upper = np.where(eye, above[:, None, :], centre[:, None, :])
        asked = np.concatenate([centre[:, None, :], lower, upper], axis=1).reshape(-1, groups)
        answer = self._source.evaluate(np.ascontiguousarray(asked, np.float32))
        latency = answer.latency_ms.reshape(len(widths), 2 * groups + 1)
        run = np.maximum(above - below, 1e-9)
        rise = latency[:, groups + 1 :] - latency[:, 1 : groups + 1]
        middle = slice(None, None, 2 * groups + 1)
        return LatencyEstimate(
            latency_ms=latency[:, 0],
            gradient=np.where(above > below, rise / run, 0).astype(np.float32),
            lower_ms=answer.lower_ms[middle],
            upper_ms=answer.upper_ms[middle],
        )

    def _positions(self, widths: Floats32) -> Ints:
        """For each width the position [B, G] of the next lattice width at or above it."""
        columns = [np.searchsorted(c, widths[:, g] - 1e-4) for g, c in enumerate(self._lattice)]
        return np.stack(columns, axis=1)

    def _at(self, positions: Ints) -> Floats32:
        columns = [c[np.clip(positions[:, g], 0, len(c) - 1)] for g, c in enumerate(self._lattice)]
        return np.stack(columns, axis=1)


def envelope(predictor: Predictor) -> Predictor:
    """The same predictor with slopes that see past the steps of its lattice."""
    return Predictor(predictor.view, EnvelopeSource(predictor.source, predictor.lattice))
