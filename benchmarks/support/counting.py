"""Predictors that count: multiply-accumulates or parameters take the place of latency.

Published results are stated at a share of these. Every width is on the lattice, as it is there.
Parameters include the running statistics of batch norms (.5 % of a ResNet-20's), which published
counts leave out.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal

import numpy as np

from latency_service.core.arrays import Floats, Floats32
from latency_service.devices.schemas import RuntimeConfig
from latency_service.predictors.schemas import PredictorView, Sidecar
from latency_service.spaces.layers import total_macs, total_parameters
from latency_service.spaces.slicing import SearchSpace
from pruning_client.latency.predictor import LatencyEstimate, Predictor

Counted = Literal["multiply-accumulates", "parameters"]
Count = Callable[[Floats], Floats]
_FINGERPRINT = "0" * 64


def counting_predictor(space: SearchSpace, counted: Counted) -> Predictor:
    """A predictor whose "latency" is the share of the full network's count that is left."""
    source = _Source(_count(space, counted), space.full_widths)
    lowest = [group.minimum for group in space.groups]
    sidecar = Sidecar(
        space_id=space.id,
        fingerprint=_FINGERPRINT,
        model=counted,
        measurements=0,
        measurements_sha256=_FINGERPRINT,
        mape=0.0,
        repeat_difference=None,
        rivals=[],
        interval_coverage=1.0,
        groups=[group.name for group in space.groups],
        full_widths=space.full_widths,
        minimum_widths=lowest,
        lattice=[list(range(group.minimum, group.width + 1)) for group in space.groups],
        dense_ms=1.0,
        lowest_ms=float(source.shares(np.array([lowest], dtype=np.float64))[0]),
        trained_seconds=0.0,
        versions={},
    )
    view = PredictorView(
        id=counted,
        space_id=space.id,
        target_id=counted,
        device="none",
        runtime=RuntimeConfig(),
        version=1,
        stale=False,
        created_at=datetime.now(UTC),
        artifact_sha256=_FINGERPRINT,
        sidecar=sidecar,
    )
    return Predictor(view, source)


def _count(space: SearchSpace, counted: Counted) -> Count:
    if counted == "multiply-accumulates":
        return lambda widths: total_macs(space, widths)
    return lambda widths: np.array(
        [total_parameters(space, row) for row in np.rint(widths).astype(int).tolist()], np.float64
    )


class _Source:
    """Shares of a count, and their gradient: exact, since counts are at most quadratic in a width.

    Args:
        count: of each of `widths` [B, G].
    """

    def __init__(self, count: Count, full: list[int]) -> None:
        self._count = count
        self._full = float(count(np.array([full], dtype=np.float64))[0])

    def shares(self, widths: Floats) -> Floats:
        """[B] for widths [B, G]."""
        return self._count(widths) / self._full

    def evaluate(self, widths: Floats32) -> LatencyEstimate:
        rows = widths.astype(np.float64)
        shares = self.shares(rows).astype(np.float32)
        steps = np.eye(rows.shape[1])
        gradient = np.stack(
            [(self.shares(rows + step) - self.shares(rows - step)) / 2 for step in steps], axis=1
        )
        return LatencyEstimate(
            latency_ms=shares,
            gradient=gradient.astype(np.float32),
            lower_ms=shares,
            upper_ms=shares,
        )
