"""What a pruning job reports: the content of report.json. Latencies in ms, accuracies and errors in per cent."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

from latency_service.devices.schemas import RuntimeConfig
from latency_service.predictors.schemas import ModelErrors

Stage = Literal["dense", "structure", "delivered"]


class NetworkFigures(BaseModel):
    """One network: its latency as measured with the 95 % interval, and what it costs."""

    latency_ms: float
    lower_ms: float
    upper_ms: float
    predicted_ms: float
    accuracy: float = Field(description="on held-out images, per cent")
    parameters: int
    macs: int = Field(description="multiply-accumulates of one image")


class PredictorFigures(BaseModel):
    """The predictor that was used, and how far it can be trusted."""

    id: str
    version: int
    model: str
    source: Literal["local", "served"]
    measurements: int
    mape: float = Field(description="held-out mean absolute percentage error")
    repeat_difference: float | None = Field(description="repeatability floor, per cent")
    rivals: list[ModelErrors]


class GroupWidth(BaseModel):
    """One width group before and after."""

    name: str
    before: int
    after: int
    members: list[str]


class Verification(BaseModel):
    """One measurement of a whole file on the target."""

    stage: Stage = Field(description="structure: pruned but not yet fine-tuned, to settle the widths")
    widths: list[int]
    predicted_ms: float | None
    latency_ms: float
    lower_ms: float
    upper_ms: float
    verdict: str
    measurement_id: str
    model_sha256: str


class Point(BaseModel):
    """One architecture of the campaign: predicted against measured."""

    measured_ms: float
    predicted_ms: float


class Report(BaseModel):
    """A whole pruning job."""

    format: int = 1
    name: str
    created_at: datetime
    budget_ms: float
    budget: str = Field(description="as asked for")
    met: bool = Field(description="the delivered file's measured latency is at most the budget")
    over_percent: float = Field(description="measured latency against the budget; negative is under it")
    dense: NetworkFigures
    pruned: NetworkFigures
    predictor: PredictorFigures
    widths: list[GroupWidth]
    unprunable: dict[str, str] = Field(description="layers left at full width, each with the reason")
    device: str
    runtime: RuntimeConfig
    fingerprint: str
    space_id: str
    method: str
    config: dict[str, Any]
    seed: int
    verifications: list[Verification]
    points: list[Point]
    history: list[dict[str, Any]]
    denormals_flushed: int
    timings_seconds: dict[str, float]
    versions: dict[str, str]
    command: str = Field(description="reproduces the job")
    files: dict[str, str] = Field(default_factory=dict, description="file names beside report.json")
    run_id: str | None = None
