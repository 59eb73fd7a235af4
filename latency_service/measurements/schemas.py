"""Wire schemas of measurements: what an agent sends, and what is shown of it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from latency_service.core.wire import MAX_INTEGER, Name, Seconds, Sentence, WireModel
from latency_service.devices.schemas import Fingerprint

Verdict = Literal["ok", "unstable"]
#: A latency in ms as a device may send it: from a picosecond to eleven days.
Latency = Annotated[float, Field(ge=1e-9, le=1e9, allow_inf_nan=False)]
MAX_CANARIES = 16
#: One reading of each canary.
Readings = Annotated[list[Latency], Field(fail_fast=True, max_length=MAX_CANARIES)]
#: Rounds of one architecture; an agent adds to those asked for where it measures a file.
MAX_ROUNDS = 20_000
MAX_ARCHITECTURES = 1000


class Protocol(WireModel):
    """How an architecture is to be measured. Times in milliseconds or seconds, as named."""

    model_config = ConfigDict(frozen=True)

    half_width: float = Field(
        0.01, gt=0, le=1, description="wanted half-width of the 95 % interval, relative"
    )
    min_rounds: int = Field(15, ge=3, le=1000)
    max_rounds: int = Field(120, ge=3, le=5000)
    round_ms: float = Field(
        6.0, gt=0, le=60_000, description="time spent in the runs of one architecture in one round"
    )
    warmup_min_runs: int = Field(
        10, ge=1, le=10_000, description="runs of each network before its first round"
    )
    warmup_min_seconds: float = Field(
        0.2, ge=0, le=600, description="time that a measuring process runs networks before it times"
    )
    budget_seconds: float = Field(
        3.0, gt=0, le=3600, description="time per architecture after which it is `unstable`"
    )

    @model_validator(mode="after")
    def _check_rounds(self) -> Self:
        if self.max_rounds < self.min_rounds:
            raise ValueError("max_rounds is below min_rounds")
        return self


class Calibration(WireModel):
    """Latency of each canary on this target when nothing disturbs it, ms, slowest last."""

    model_config = ConfigDict(frozen=True)

    canaries: Annotated[
        list[Name], Field(fail_fast=True, min_length=1, max_length=MAX_CANARIES)
    ] = Field(description="names of the canary networks, fastest first")
    floor_ms: Readings
    reference_ms: Latency | None = Field(
        None,
        description="latency of the reference network when nothing disturbs it; null without one. "
        "The reference is the full-width architecture of the search space, with weights drawn",
    )


class Round(WireModel):
    """One visit to one architecture, between two readings of the canaries and the reference. Visits
    to several architectures share their readings while these agree, and a canary that does not
    count beside the reference is read from time to time only.
    """

    model_config = ConfigDict(frozen=True)

    at_seconds: Seconds = Field(description="since the measuring process began")
    latency_ms: Latency = Field(description="fastest quartile mean of the runs of this round")
    runs: int = Field(ge=1, le=MAX_INTEGER)
    before_ms: Readings = Field(
        description="last reading of each canary before, same order as the calibration"
    )
    after_ms: Readings = Field(description="last reading of each canary after")
    reference_ms: tuple[Latency, Latency] | None = Field(
        None, description="the reference network before and after; null without one"
    )
    contenders: int = Field(
        0,
        ge=0,
        le=MAX_INTEGER,
        description=(
            "most other tasks seen ready to run with no core left for them, at its two ends"
        ),
    )
    disturbed: Sentence | None = Field(
        None, description="why its latency does not count, in spite of its canary readings"
    )


class ArchitectureResult(WireModel):
    index: int = Field(ge=0, le=MAX_INTEGER, description="position in the batch of the lease")
    rounds: Annotated[list[Round], Field(fail_fast=True)] = Field(
        min_length=1, max_length=MAX_ROUNDS
    )
    stopped: Literal["precise", "budget", "rounds"] = Field(
        description="why no more rounds were added"
    )


class Summary(BaseModel):
    """The statistic derived from the rounds of one measurement. Latencies in ms."""

    model_config = ConfigDict(frozen=True)

    latency_ms: float
    lower_ms: float
    upper_ms: float
    naive_ms: float = Field(description="plain median of the rounds, not corrected by canaries")
    reference_ms: float | None = Field(
        None,
        description="quiet latency of the reference network that this measurement was corrected by",
    )
    reference_elasticity: float | None = Field(
        None,
        description="relative change of `latency_ms` for a relative change of `reference_ms`: 1 "
        "where the reference alone corrects, 0 where the canaries do",
    )
    verdict: Verdict
    reason: str | None = None
    trainable: bool = Field(
        description="worth training on, weighted by its interval: `ok`, or unstable only since the "
        "interval is wider "
        "than asked, of ±10 % at most"
    )
    quiet_share: float = Field(
        ge=0, le=1, description="share of rounds in which every canary was at its floor"
    )
    quarantined_share: float = Field(
        0.0, ge=0, le=1, description="share of rounds with evidence against them"
    )
    rounds_used: int


class MeasurementView(BaseModel):
    id: str
    space_id: str
    target_id: str
    campaign_id: str | None
    job_id: str
    attempt_id: str
    widths: list[int] | None = Field(description="null for a delivered model file")
    model_sha256: str | None
    counted: bool = Field(
        description="false for an extra repeat of a job that another attempt finished"
    )
    created_at: datetime
    summary: Summary
    rounds: list[Round] | None = None


#: Minimum number of architectures, measured on two devices, that tell a difference from noise.
LEAST_COMPARED = 3


class PeerView(BaseModel):
    """One target beside another device's with the same fingerprint: two machines of one class."""

    target_id: str
    fingerprint: str
    peer_device: str
    peer_target_id: str
    canary_percent: list[float] = Field(
        description="how much longer each canary takes than on the peer, per cent"
    )
    architectures: int = Field(description="architectures that were measured on both")
    median_percent: float | None = Field(
        description="how much longer these take than on the peer, per cent, at the median; null "
        "without any"
    )
    greatest_percent: float | None = Field(description="the difference furthest from zero")
    differs: bool = Field(
        description="every canary, or the median architecture, differs by more than 10 %"
    )


class ResultBody(WireModel):
    """What an agent sends when an attempt has succeeded."""

    fingerprint: Fingerprint
    calibration: Calibration
    results: Annotated[list[ArchitectureResult], Field(fail_fast=True)] = Field(
        min_length=1, max_length=MAX_ARCHITECTURES
    )
    wall_seconds: Seconds
    timed_seconds: Seconds = Field(description="of it, spent inside timed runs")
