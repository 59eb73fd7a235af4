"""The targets of a job, each with its budget."""

from __future__ import annotations

from dataclasses import dataclass, field

from latency_service.devices.schemas import DeviceView, RuntimeConfig
from pruning_client.latency.predictor import Predictor
from pruning_client.pipeline.measure import FileMeasurement


@dataclass(frozen=True, kw_only=True)
class Goal:
    """One target and its budget."""

    device: DeviceView
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    predictor: Predictor
    budget_ms: float
    #: Measurement of the dense network on this target.
    dense: FileMeasurement
