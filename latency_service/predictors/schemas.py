"""Wire schemas of predictors: the sidecar of the artifact, and predictions over HTTP."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from latency_service.core.wire import MAX_GROUPS, WireModel
from latency_service.devices.schemas import RuntimeConfig


class ModelErrors(BaseModel):
    """Errors of one kind of model on held-out architectures (percentages; cross-validated)."""

    model_config = ConfigDict(frozen=True)

    name: str = Field(
        description=(
            "lpnet, lpnet-transfer, lpnet-mlp, flops-line, kernel-ridge, "
            "gaussian-process, gradient-boosting"
        )
    )
    mape: float = Field(description="mean absolute percentage error")
    p90: float = Field(description="90th percentile of the absolute percentage error")
    within_5: float = Field(description="percentage of predictions within 5 %")
    within_10: float
    spearman: float
    differentiable: bool


class LearningPoint(BaseModel):
    """Held-out error of the served kind of model when it is trained on so many architectures."""

    model_config = ConfigDict(frozen=True)

    measurements: int
    mape: float = Field(description="mean absolute percentage error")


class CoveragePoint(BaseModel):
    """Interval of one level: the share of held-out measurements that should be inside, and is."""

    model_config = ConfigDict(frozen=True)

    nominal: float = Field(gt=0, lt=1)
    empirical: float = Field(ge=0, le=1)


class HeldOut(BaseModel):
    """Predictions of architectures by the served kind of model, fitted without them, beside their
    measurements.
    """

    model_config = ConfigDict(frozen=True)

    widths: list[list[float]] = Field(description="[N, G]")
    measured_ms: list[float] = Field(description="repeats of an architecture combined [N]")
    predicted_ms: list[float] = Field(description="[N]")
    coverage: list[CoveragePoint] = Field(description="of intervals calibrated on the other folds")


class Sidecar(BaseModel):
    """What a predictor was trained on and how far it can be trusted."""

    format: int = 1
    space_id: str
    fingerprint: str
    model: str = Field(description="name of the model that is served")
    measurements: int = Field(description="architectures trained on")
    transferred_from: list[str] = Field(
        default_factory=list, description="ids of other targets whose measurements it learned from"
    )
    measurements_sha256: str = Field(description="hash of the sorted measurement ids")
    mape: float = Field(description="of the served model, held out, per cent")
    repeat_difference: float | None = Field(
        description=(
            "repeatability floor: median relative difference between repeated "
            "measurements, per cent"
        )
    )
    rivals: list[ModelErrors] = Field(description="every model fitted, the served one among them")
    learning_curve: list[LearningPoint] = Field(
        default_factory=list, description="fewest measurements first; the last point is all of them"
    )
    interval_level: float = 0.9
    interval_coverage: float = Field(
        description="share of held-out measurements inside the interval"
    )
    groups: list[str]
    full_widths: list[int]
    minimum_widths: list[int]
    lattice: list[list[int]] = Field(description="for each group the widths worth using, ascending")
    dense_ms: float = Field(description="predicted latency at full width")
    lowest_ms: float = Field(
        description="lowest predicted latency on the lattice (all groups at their minimum)"
    )
    trained_seconds: float
    versions: dict[str, str]


class PredictorView(BaseModel):
    id: str
    space_id: str
    target_id: str
    device: str
    runtime: RuntimeConfig
    version: int
    stale: bool = Field(
        description="its target has changed since: another runtime, other clocks or cores"
    )
    cure: str | None = Field(None, description="of a stale predictor: the command that repairs it")
    created_at: datetime
    artifact_sha256: str
    sidecar: Sidecar
    measurement_ids: list[str] | None = Field(None, description="trained on; null in lists")
    held_out: HeldOut | None = Field(
        None, description="predicted and measured latencies of cross-validation; null in lists"
    )


#: A width as it may be asked for: whole or not, and checked against its group's range later.
_Number = Annotated[int, Field(ge=-(10**9), le=10**9)] | float
_Vector = Annotated[list[_Number], Field(fail_fast=True, max_length=MAX_GROUPS)]


class PredictRequest(WireModel):
    widths: _Vector | Annotated[list[_Vector], Field(fail_fast=True)] = Field(
        description="one width vector [G], or many [B, G]"
    )
    gradient: bool = Field(False, description="also return d latency / d width, ms per channel")
    measured: bool = Field(
        True,
        description=(
            "answer architectures that were measured with their measurement; never with a gradient"
        ),
    )


class Prediction(BaseModel):
    """Answers in the order asked. Latencies in ms; intervals of 90 % where they are predicted, of
    95 % where they were measured.
    """

    predictor_id: str
    latency_ms: list[float]
    lower_ms: list[float]
    upper_ms: list[float]
    gradient: list[list[float]] | None = None
    source: list[Literal["measured", "predicted"]] = Field(
        [], description="where each latency is from"
    )
    measurement_id: list[str | None] = Field([], description="of those that were measured")
    stale: bool = Field(False, description="the target has changed since the predictor was trained")
    cure: str | None = Field(None, description="of a stale predictor: the command that repairs it")


_USUAL = RuntimeConfig()


def cure_of_stale(space_id: str, device: str, runtime: Mapping[str, Any]) -> str:
    """The command that repairs the predictors of a space on a device whose fingerprint has
    changed.
    """
    chosen = RuntimeConfig.model_validate(runtime)
    options = "".join(
        f" --target-{option} {value}"
        for option, value, usual in (
            ("provider", chosen.provider, _USUAL.provider),
            ("threads", chosen.intra_threads, _USUAL.intra_threads),
            ("batch", chosen.batch, _USUAL.batch),
            ("precision", chosen.precision, _USUAL.precision),
        )
        if value != usual
    )
    return (
        f"Run: latency-service campaigns create --space {space_id[:12]} --device "
        f"{shlex.quote(device)}{options} --repair"
    )
