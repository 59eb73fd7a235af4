"""Goals and measurements as the closed loop sees them, and a device that answers at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import numpy as np

from latency_service.core.arrays import Floats
from latency_service.devices.schemas import DeviceView
from pruning_client.latency.budget import Budget
from pruning_client.latency.predictor import Predictor, Widths
from pruning_client.latency.readings import Evidence, FileMeasurement, FileMeasurements
from pruning_client.pipeline.goals import Goal
from tests.support import analytic


def measured(
    latency_ms: float,
    *,
    half_width: float = 0.005,
    verdict: str = "ok",
    seconds: float = 12.0,
) -> FileMeasurement:
    """One reading with a relative half width of its interval."""
    return FileMeasurement(
        latency_ms=latency_ms,
        lower_ms=latency_ms / (1 + half_width),
        upper_ms=latency_ms * (1 + half_width),
        verdict=verdict,
        measurement_id="m",
        target_id="t",
        model_sha256="0" * 64,
        seconds=seconds,
    )


def goal(
    predictor: Predictor,
    budget: Budget | float,
    device: str = "board",
    dense: FileMeasurement | None = None,
) -> Goal:
    """A goal whose dense network has been measured once; a budget in ms or as it is."""
    now = datetime(2025, 6, 1, tzinfo=UTC)
    view = DeviceView(
        id=device, name=device, online=True, created_at=now, last_seen_at=now, agents=[], targets=[]
    )
    wanted = budget if isinstance(budget, Budget) else Budget(absolute_ms=budget)
    full = tuple(predictor.sidecar.full_widths)
    evidence = Evidence.of_dense(wanted, full, [dense or measured(1.3)])
    return Goal(device=view, predictor=predictor, evidence=evidence)


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
