"""One predictor of several targets: the latency that is worst in proportion to its budget."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from latency_service.core.arrays import Floats32
from latency_service.predictors.schemas import Sidecar
from pruning_client.errors import UsageError
from pruning_client.latency.predictor import LatencyEstimate, Predictor, Source


class WorstSource:
    """Predictions of the target whose latency is highest in proportion to its budget.

    Latencies are in ms of the first budget. The gradient [B, G] is that of the highest target: a
    subgradient of the maximum.
    """

    def __init__(self, sources: Sequence[Source], scales: Sequence[float]) -> None:
        self._sources = list(sources)
        self._scales = [np.float32(scale) for scale in scales]

    def evaluate(self, widths: Floats32) -> LatencyEstimate:
        """Predictions for `widths` [B, G]; one evaluation of each target's predictor."""
        estimates = [source.evaluate(widths) for source in self._sources]
        latency = self._scaled([estimate.latency_ms for estimate in estimates])
        gradient = self._scaled([estimate.gradient for estimate in estimates])
        worst = np.argmax(latency, axis=0), np.arange(len(widths))
        return LatencyEstimate(
            latency_ms=latency[worst],
            gradient=gradient[worst],
            lower_ms=self._scaled([estimate.lower_ms for estimate in estimates]).max(axis=0),
            upper_ms=self._scaled([estimate.upper_ms for estimate in estimates]).max(axis=0),
        )

    def _scaled(self, values: Sequence[Floats32]) -> Floats32:
        """Values of all targets [T, ...], each in ms of the first budget."""
        pairs = zip(values, self._scales, strict=True)
        return np.stack([scale * value for value, scale in pairs])


def common_lattice(predictors: Sequence[Predictor]) -> list[list[int]]:
    """The widths [G][...] of each group that are worth using on every target.

    Raises:
        UsageError: the lattices of a group have no width in common.
    """
    lattices = zip(*(predictor.lattice for predictor in predictors), strict=True)
    shared = [sorted(set.intersection(*map(set, choices))) for choices in lattices]
    for choices, name in zip(shared, predictors[0].sidecar.groups, strict=True):
        if not choices:
            raise UsageError(
                f"The width group {name!r} has no width that is worth using on all of these "
                "devices.",
                "Prune for each device separately.",
            )
    return shared


def worst_of(predictors: Sequence[Predictor], budgets_ms: Sequence[float]) -> Predictor:
    """The predictor of all targets together, in ms of the first budget; a single one as it is.

    Raises:
        UsageError: the lattices of a group have no width in common.
    """
    first = predictors[0]
    if len(predictors) == 1:
        return first
    scales = [budgets_ms[0] / budget_ms for budget_ms in budgets_ms]
    source = WorstSource([predictor.source for predictor in predictors], scales)
    sidecar = _sidecar(first.sidecar, common_lattice(predictors), source)
    return Predictor(first.view.model_copy(update={"sidecar": sidecar}), source)


def _sidecar(first: Sidecar, lattice: list[list[int]], source: Source) -> Sidecar:
    """The first target's sidecar with the common lattice and the latencies at its two ends."""
    ends = [[choices[-1] for choices in lattice], [choices[0] for choices in lattice]]
    dense_ms, lowest_ms = source.evaluate(np.array(ends, np.float32)).latency_ms
    update = {"lattice": lattice, "dense_ms": float(dense_ms), "lowest_ms": float(lowest_ms)}
    return first.model_copy(update=update)
