"""The targets of a job, each with its budget."""

from __future__ import annotations

from dataclasses import dataclass, field

from latency_service.devices.schemas import DeviceView, RuntimeConfig
from pruning_client.latency.predictor import Predictor
from pruning_client.latency.readings import Evidence


@dataclass(frozen=True, kw_only=True)
class Goal:
    """One target, its budget and what has been measured there."""

    device: DeviceView
    runtime: RuntimeConfig = field(default_factory=RuntimeConfig)
    predictor: Predictor
    evidence: Evidence

    @property
    def budget_ms(self) -> float:
        return self.evidence.budget_ms
