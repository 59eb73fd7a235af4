"""What an export holds: one row for each space, target and measurement."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, Json

from latency_service.devices.schemas import Fingerprint, RuntimeConfig
from latency_service.measurements.schemas import Calibration, Latency, Round, Verdict

#: Identifier of a row, as `latency_service.db.base.new_id` makes them.
Id = Annotated[str, Field(min_length=1, max_length=32)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, le=1)]


class Shared(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SharedSpace(Shared):
    id: Sha256
    is_probe: bool
    #: The file of the space.
    blob: bytes


class SharedTarget(Shared):
    """A target with its device and the database that it was measured for."""

    id: Id
    device_id: Id
    device_name: str = Field(min_length=1, max_length=80, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    #: Database whose agents measured it.
    source: Id
    fingerprint: Sha256
    runtime: Json[RuntimeConfig]
    facts: Json[dict[str, str | int | float | bool | None]]
    context: Json[dict[str, Any]]
    canaries: list[str]
    canary_ms: list[Latency]
    generation: int = Field(ge=1, le=1_000_000)
    is_current: bool
    created_at: datetime

    def is_consistent(self) -> bool:
        """Whether the fingerprint is that of the runtime and the facts."""
        whole = Fingerprint(runtime=self.runtime, facts=self.facts)
        return whole.digest == self.fingerprint and len(self.canaries) == len(self.canary_ms)


class SharedMeasurement(Shared):
    """A measurement with its raw rounds, where they are kept, and the job that it came from."""

    id: Id
    space_id: Sha256
    target_id: Id
    job_id: Id
    job_kind: Literal["measure", "verify"]
    attempt_id: Id
    #: First attempt is 1.
    attempt_number: int = Field(ge=1, le=1_000_000)
    position: int = Field(ge=0, le=1_000_000)
    widths: list[int] | None
    model_sha256: Sha256 | None
    counted: bool
    latency_ms: Latency
    lower_ms: Latency
    upper_ms: Latency
    naive_ms: Latency
    reference_ms: Latency | None
    reference_elasticity: float | None
    verdict: Verdict
    reason: str | None
    trainable: bool
    quiet_share: Share
    quarantined_share: Share
    rounds_used: int = Field(ge=0, le=1_000_000)
    stopped: Literal["precise", "budget", "rounds"]
    created_at: datetime
    calibration: Json[Calibration]
    rounds: list[Round]
    rounds_kept: bool
