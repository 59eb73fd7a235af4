"""Wire schemas of jobs: leases, renewals, results and failures."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from latency_service.core.text import MAX_LOG, MAX_MESSAGE
from latency_service.core.wire import WireModel
from latency_service.devices.schemas import RuntimeConfig
from latency_service.measurements.schemas import Protocol

JobKind = Literal["measure", "verify", "train"]
JobState = Literal["queued", "leased", "done", "failed", "cancelled"]
AttemptState = Literal["open", "done", "late", "superseded", "failed", "expired", "cancelled"]
FailureKind = Literal[
    "lease_invalid",
    "model_invalid",
    "unsupported_op",
    "runtime_crash",
    "runtime_timeout",
    "device_oom",
    "device_unhealthy",
    "unstable_measurement",
    "agent_lost",
    "version_mismatch",
    "result_refused",
    "internal",
]

#: What names files on the device, and so must be nothing but a name.
ATTEMPT_ID = r"^[A-Za-z0-9_-]{1,64}$"
SHA256 = r"^[0-9a-f]{64}$"
#: Failure kinds that another attempt may cure.
RETRYABLE: frozenset[str] = frozenset(
    {
        "runtime_crash",
        "runtime_timeout",
        "device_unhealthy",
        "unstable_measurement",
        "agent_lost",
        "internal",
    }
)


class LeaseArchitecture(BaseModel):
    model_config = ConfigDict(frozen=True)

    index: int
    widths: list[int]


class Lease(BaseModel):
    """One attempt at one job. ``attempt_id`` is the fencing token of everything that follows."""

    attempt_id: str = Field(pattern=ATTEMPT_ID)
    job_id: str
    number: int = Field(description="first attempt is 1")
    kind: Literal["measure", "verify"]
    lease_seconds: float
    renew_seconds: float
    runtime: RuntimeConfig
    protocol: Protocol
    space_id: str = Field(
        pattern=SHA256,
        description="SHA-256 of the search space to fetch; `verify` takes its full-width "
        "architecture as the reference network",
    )
    model_sha256: str | None = Field(
        pattern=SHA256, description="SHA-256 of the delivered file to fetch; null for `measure`"
    )
    opset: int
    seed: int
    architectures: list[LeaseArchitecture] = Field(description="empty for `verify`")


class Failure(WireModel):
    kind: FailureKind
    message: str = Field(max_length=MAX_MESSAGE)
    log_tail: str = Field("", max_length=MAX_LOG)


class ResultAnswer(BaseModel):
    outcome: Literal["accepted", "repeated", "late", "superseded"]
    measurement_ids: list[str]


class QueuePlace(BaseModel):
    """Where something stands in the queue of its device."""

    model_config = ConfigDict(frozen=True)

    jobs_ahead: int = Field(description="jobs that the device does before, those at work included")
    expected_seconds: float | None = Field(
        description="time until it has ended, by the median of the device's newest attempts; null "
        "before the first"
    )


class AttemptView(BaseModel):
    id: str
    number: int
    agent_id: str
    state: AttemptState
    leased_at: datetime
    expires_at: datetime
    finished_at: datetime | None
    wall_seconds: float | None = Field(
        description="of the measuring process; null without a result"
    )
    timed_seconds: float | None = Field(description="of it, inside timed runs")
    failure_kind: str | None
    message: str | None


class JobView(BaseModel):
    id: str
    kind: JobKind
    state: JobState
    device_id: str | None
    campaign_id: str | None
    created_at: datetime
    finished_at: datetime | None
    attempts: list[AttemptView]
    result: dict[str, Any] | None = Field(
        None, description="measurement_ids of a measuring job, predictor_id of a training job"
    )
    failure: Failure | None = None
    queue: QueuePlace | None = Field(None, description="null unless it waits for its device")
