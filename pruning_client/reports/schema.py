"""Content of report.json. Latencies are in ms, accuracies and errors in per cent."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field, computed_field

from latency_service.core.runtimes import CalibrationName
from latency_service.devices.schemas import RuntimeConfig
from latency_service.predictors.schemas import ModelErrors
from pruning_client.latency.readings import Stage
from pruning_client.reports.templating import notebook_html

#: not decided: the interval includes the budget, and the time for verification is spent.
Outcome = Literal["met", "not met", "not decided"]


class FileFigures(BaseModel):
    """One file: measured latency with its 95 % confidence interval, accuracy and size."""

    latency_ms: float
    lower_ms: float
    upper_ms: float
    accuracy: float = Field(
        description="of this very file in ONNX Runtime, on held-out images, per cent"
    )
    file_bytes: int


class NetworkFigures(FileFigures):
    """One network, as the file that was measured."""

    predicted_ms: float
    parameters: int
    macs: int = Field(description="multiply-accumulates of one image")


class QuantisedFigures(BaseModel):
    """How the int8 file was made, and the fp32 file of the same network beside it."""

    calibration: CalibrationName
    images: int = Field(description="training images that it was calibrated on")
    max_accuracy_drop: float = Field(description="points below the fp32 file that are allowed")
    float_layers: list[str] = Field(
        description="layers that are left in float, because it was asked for or for the accuracy"
    )
    fp32: FileFigures = Field(description="on the fp32 target of the same device")
    dense_fp32_accuracy: float


class PredictorFigures(BaseModel):
    """Predictor of the job and its errors."""

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

    stage: Stage = Field(
        description="structure: pruned but not yet fine-tuned, to decide the widths"
    )
    widths: list[int]
    predicted_ms: float | None
    latency_ms: float
    lower_ms: float
    upper_ms: float
    verdict: str
    measurement_id: str
    model_sha256: str
    device: str = ""


class LayerShare(BaseModel):
    """Latency of one layer: its share of a local profile, scaled to the measured latency."""

    name: str = Field(
        description="name of the layer's weights, or the kind of an operator without weights"
    )
    before_ms: float
    after_ms: float


class TargetFigures(BaseModel):
    """One target of a job that has several."""

    device: str
    runtime: RuntimeConfig = Field(default_factory=RuntimeConfig)
    budget_ms: float
    outcome: Outcome
    probability: float = Field(ge=0, le=1, description="that the file keeps the budget")
    over_percent: float
    dense_ms: float
    latency_ms: float
    lower_ms: float
    upper_ms: float
    predicted_ms: float
    predictor_id: str


class Point(BaseModel):
    """One architecture of the campaign: predicted against measured."""

    measured_ms: float
    predicted_ms: float


class Picture(BaseModel):
    """A picture that the method has made."""

    title: str
    note: str = Field(description="what it shows")
    png: str = Field(description="content of a PNG file in base64")


class Spent(BaseModel):
    """What the verification took: all measurements of files, and the waiting between them."""

    readings: int
    seconds: float
    waited_seconds: float = Field(description="of them, for a quieter machine")


class Report(BaseModel):
    """A whole pruning job."""

    format: int = 3
    name: str
    created_at: datetime
    budget_ms: float
    budget: str = Field(description="budget as given")
    outcome: Outcome = Field(
        description="met: by its measured interval the delivered file keeps the budget on every "
        "target"
    )
    probability: float = Field(
        ge=0, le=1, description="that the delivered file keeps the budget on every target"
    )
    over_percent: float = Field(
        description="relative excess of the measured latency over the budget; negative is below"
    )
    warnings: list[str] = Field(
        default_factory=list, description="what has to be known before the file is deployed"
    )
    verification: Spent
    dense: NetworkFigures
    pruned: NetworkFigures
    quantised: QuantisedFigures | None = Field(None, description="of a job for int8 targets")
    predictor: PredictorFigures
    targets: list[TargetFigures] = Field(
        default_factory=list,
        description="every target; the figures above are those of the target nearest to its budget",
    )
    widths: list[GroupWidth]
    layers: list[LayerShare] = Field(
        default_factory=list, description="latency of each layer before and after"
    )
    unprunable: dict[str, str] = Field(
        description="reason of each layer that is left at full width"
    )
    device: str
    runtime: RuntimeConfig
    fingerprint: str
    space_id: str
    method: str
    config: dict[str, Any]
    seed: int
    facts: dict[str, str | bool | int | float] = Field(
        default_factory=dict, description="what the method has found out, by name"
    )
    pictures: list[Picture] = Field(default_factory=list)
    verifications: list[Verification]
    points: list[Point]
    history: list[dict[str, Any]]
    denormals_flushed: int
    timings_seconds: dict[str, float]
    versions: dict[str, str]
    command: str = Field(description="command that reproduces the job")
    files: dict[str, str] = Field(
        default_factory=dict, description="names of the files beside report.json"
    )
    run_id: str | None = None

    @computed_field  # type: ignore[prop-decorator]
    @property
    def met(self) -> bool:
        """Whether the delivered file keeps the budget on every target, as measured."""
        return self.outcome == "met"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return notebook_html("report", self)


class FrontPoint(BaseModel):
    """One finished run among others."""

    name: str
    method: str
    allocator: str | None
    device: str
    budget: str
    budget_ms: float
    met: bool
    over_percent: float
    latency_ms: float
    lower_ms: float
    upper_ms: float
    accuracy: float
    accuracy_drop: float = Field(
        description="accuracy lost against the dense network, percentage points"
    )
    speed_up: float = Field(
        description="measured latency of the dense network divided by that of the pruned one"
    )
    mac_reduction: float
    seed: int
    run_id: str | None
    command: str
    on_front: bool = Field(True, description="no other run is both faster and at least as accurate")


class Front(BaseModel):
    """Several runs: accuracy against measured latency, fastest first."""

    format: int = 1
    points: list[FrontPoint]
    failures: dict[str, str] = Field(description="reason of each budget that could not be met")
    chosen: str | None = Field(None, description="id of the run that was searched for")
    dense_ms: float | None = Field(
        None, description="latency of the dense network, if all runs share it"
    )
    dense_accuracy: float | None = None

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return notebook_html("front", self)
