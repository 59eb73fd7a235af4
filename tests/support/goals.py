"""Goals and measurements as the closed loop sees them, and a device that answers at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np

from latency_service.core.arrays import Floats
from latency_service.devices.schemas import DeviceView
from pruning_client.latency.predictor import Predictor, Widths
from pruning_client.pipeline.goals import Goal
from pruning_client.pipeline.measure import FileMeasurement, FileMeasurements
from tests.support import analytic


def measured(
    latency_ms: float, *, half_width: float = 0.01, verdict: str = "ok", taken: int = 1
) -> FileMeasurement:
    """One measurement with a relative half width of its interval."""
    return FileMeasurement(
        latency_ms=latency_ms,
        lower_ms=(1 - half_width) * latency_ms,
        upper_ms=(1 + half_width) * latency_ms,
        verdict=verdict,
        measurement_id="m",
        target_id="t",
        model_sha256="0" * 64,
        taken=taken,
    )


def goal(
    predictor: Predictor, budget_ms: float, device: str = "board", dense_ms: float = 1.3
) -> Goal:
    now = datetime(2025, 6, 1, tzinfo=UTC)
    view = DeviceView(
        id=device, name=device, online=True, created_at=now, last_seen_at=now, agents=[], targets=[]
    )
    return Goal(device=view, predictor=predictor, budget_ms=budget_ms, dense=measured(dense_ms))


def linear(base_ms: float, slopes_ms: Sequence[float], lattice: list[list[int]]) -> Predictor:
    """Latency that is affine in the widths, on a lattice."""
    groups = len(slopes_ms)
    sidecar = analytic.sidecar_of([choices[-1] for choices in lattice], lattice)
    artifact = analytic.quadratic(base_ms, slopes_ms, np.zeros((groups, groups)))
    return Predictor(analytic.view(sidecar), analytic.LocalSource(artifact))


def fine() -> Predictor:
    """Latency is affine in three groups, with a fine lattice."""
    return linear(0.1, [0.004, 0.006, 0.008], [list(range(4, 65, 2))] * 3)


def random_scores(predictor: Predictor) -> list[Floats]:
    rng = np.random.default_rng(0)
    return [rng.random(width) + 0.1 for width in predictor.sidecar.full_widths]


class Device:
    """A device whose latency is the predicted one times a factor that depends on the widths."""

    def __init__(self, predictor: Predictor, factor: Callable[[Widths], float]) -> None:
        self.predictor = predictor
        self.factor = factor
        self.asked = list[Widths]()

    def __call__(self, widths: Widths) -> FileMeasurements:
        self.asked.append(widths)
        return (measured(self.ms(widths)),)

    def ms(self, widths: Widths) -> float:
        return self.factor(widths) * self.predictor.one_ms(widths)
