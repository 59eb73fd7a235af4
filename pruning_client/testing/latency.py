"""A latency predictor that needs no device: latency is affine in the multiply-accumulates."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from latency_service.core.arrays import Floats, Floats32
from latency_service.devices.schemas import RuntimeConfig
from latency_service.predictors.schemas import PredictorView, Sidecar
from latency_service.spaces.layers import layers
from latency_service.spaces.slicing import SearchSpace
from pruning_client.latency.predictor import LatencyEstimate, Predictor

#: Time of one multiply-accumulate, and of a layer beside it, ms.
MS_PER_MAC = 1e-6
MS_PER_LAYER = 0.005
#: Difference between two widths of the lattice, channels.
_STEP = 2


class MacsSource:
    """Latency ``base + w . linear + w' square w`` of widths w: a part for each layer, and one for
    each multiply-accumulate.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._base, self._linear, self._square = coefficients(space)

    def evaluate(self, widths: Floats32) -> LatencyEstimate:
        """Predictions for widths [B, G]."""
        w = widths.astype(np.float64)
        latency = self._base + w @ self._linear + ((w @ self._square) * w).sum(1)
        gradient = self._linear + w @ (self._square + self._square.T)
        return LatencyEstimate(
            latency_ms=_float32(latency),
            gradient=_float32(gradient),
            lower_ms=_float32(0.95 * latency),
            upper_ms=_float32(1.05 * latency),
        )


def coefficients(space: SearchSpace) -> tuple[float, Floats, Floats]:
    """Constant, linear [G] and quadratic [G, G] part of the latency, ms."""
    groups = len(space.groups)
    base = 0.0
    linear = np.zeros(groups)
    square = np.zeros((groups, groups))
    for layer in layers(space):
        scale = MS_PER_MAC * layer.taps * layer.pixels_out
        out = layer.c_out
        depth = layer.depth
        base += MS_PER_LAYER + scale * out.constant * depth.constant
        linear += scale * (out.constant * depth.coefficients + depth.constant * out.coefficients)
        square += scale * np.outer(out.coefficients, depth.coefficients)
    return base, linear, square


def macs_predictor(space: SearchSpace) -> Predictor:
    """A predictor of a space whose lattice has every other width."""
    source = MacsSource(space)
    lattice = [_choices(group.minimum, group.width) for group in space.groups]
    full = [group.width for group in space.groups]
    extremes = source.evaluate(np.asarray([full, [choices[0] for choices in lattice]], np.float32))
    sidecar = Sidecar(
        space_id=space.id,
        fingerprint="0" * 64,
        model="macs",
        measurements=0,
        measurements_sha256="0" * 64,
        mape=0.0,
        repeat_difference=0.0,
        rivals=[],
        interval_coverage=1.0,
        groups=[group.name for group in space.groups],
        full_widths=full,
        minimum_widths=[choices[0] for choices in lattice],
        lattice=lattice,
        dense_ms=float(extremes.latency_ms[0]),
        lowest_ms=float(extremes.latency_ms[1]),
        trained_seconds=0.0,
        versions={},
    )
    return Predictor(_view(sidecar), source)


def _view(sidecar: Sidecar) -> PredictorView:
    return PredictorView(
        id="conformance",
        space_id=sidecar.space_id,
        target_id="conformance",
        device="conformance",
        runtime=RuntimeConfig(),
        version=1,
        stale=False,
        created_at=datetime(2025, 1, 1, tzinfo=UTC),
        artifact_sha256="0" * 64,
        sidecar=sidecar,
    )


def _choices(minimum: int, width: int) -> list[int]:
    return sorted({*range(minimum, width, _STEP), width})


def _float32(values: Floats) -> Floats32:
    return values.astype(np.float32)
