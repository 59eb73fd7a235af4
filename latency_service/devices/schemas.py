"""Wire schemas of devices, their agents, and the targets they offer."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from latency_service.core.runtimes import DEFAULT_PROVIDER, Precision
from latency_service.core.wire import MAX_FACTS, MAX_INTEGER, Facts, Name, WireModel

Fact = (
    Annotated[str, Field(max_length=10_000)]
    | Annotated[int, Field(ge=-(2**63), lt=2**63)]
    | float
    | bool
    | None
)
Names = Annotated[list[Name], Field(fail_fast=True, max_length=64)]


class RuntimeConfig(WireModel):
    """The part of a target that a user chooses; everything else of it is a fact of the device."""

    model_config = ConfigDict(frozen=True)

    provider: Name = Field(DEFAULT_PROVIDER, description="ONNX Runtime execution provider")
    intra_threads: int = Field(
        1, ge=1, le=256, description="intra-op threads; inter-op is always 1"
    )
    batch: int = Field(1, ge=1, le=4096, description="images per run")
    precision: Precision = "fp32"

    @property
    def key(self) -> str:
        """Canonical form, for example ``CPUExecutionProvider/t1/b1/fp32``."""
        return f"{self.provider}/t{self.intra_threads}/b{self.batch}/{self.precision}"


class Fingerprint(WireModel):
    """Everything about a target that changes latency; its digest keys measurements and
    predictors.
    """

    model_config = ConfigDict(frozen=True)

    runtime: RuntimeConfig
    facts: dict[Name, Fact] = Field(
        max_length=MAX_FACTS,
        description=(
            "hashed: processor and flags, cores, cgroup quota, governor, ONNX Runtime "
            "version, OS, machine"
        ),
    )
    context: Facts = Field(
        default_factory=dict,
        description="facts kept but not hashed: temperature, load, kernel build, clock now",
    )

    @property
    def digest(self) -> str:
        """SHA-256 over the runtime and the hashed facts, as 64 hex digits."""
        body = json.dumps(
            {"runtime": self.runtime.model_dump(), "facts": self.facts},
            sort_keys=True,
            separators=(",", ":"),
        )
        return hashlib.sha256(body.encode()).hexdigest()


class RegisterRequest(WireModel):
    device: str = Field(min_length=1, max_length=80, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    agent_version: Name
    runtime_version: Name = Field(description="version of ONNX Runtime on the device")
    max_opset: int = Field(
        ge=0,
        le=MAX_INTEGER,
        description="newest ONNX opset that the device's onnx and ONNX Runtime both take",
    )
    providers: Names
    facts: Facts = Field(default_factory=dict)
    hardware_ids: Names = Field(
        default_factory=list,
        description="hashes of serial number (serial:...) and network hardware (network:...): tell "
        "machines of one name apart",
    )
    instance: str | None = Field(
        None, max_length=64, description="drawn by each start of an agent: tells two copies apart"
    )
    registration_key: str | None = Field(
        None,
        min_length=32,
        max_length=64,
        description=(
            "secret that an agent draws once: with it a registration whose answer got lost can be "
            "repeated"
        ),
    )


class Cadence(BaseModel):
    """How often an agent asks; the service decides, by the size of its fleet."""

    model_config = ConfigDict(frozen=True)

    heartbeat_seconds: float = Field(description="time between two heartbeats")
    poll_seconds: float = Field(description="longest pause between two requests for work")
    wait_seconds: float = Field(description="time that a request for work waits at the service")


class RegisterResponse(BaseModel):
    agent_id: str
    agent_token: str = Field(description="shown once; the agent keeps it")
    device_id: str
    cadence: Cadence


class HeartbeatRequest(WireModel):
    state: Literal["idle", "measuring", "stopping"]
    load: float | None = Field(None, ge=0, le=1e6, description="1-minute load average")
    temperature_c: float | None = Field(None, ge=-300, le=10_000)
    attempt_id: Name | None = None
    instance: str | None = Field(None, max_length=64, description="as at registration")


class HeartbeatResponse(BaseModel):
    command: Literal["continue", "cancel", "pause", "stop"] = Field(
        description="stop: another process has registered with this agent's token since"
    )
    cadence: Cadence


class AgentView(BaseModel):
    id: str
    agent_version: str
    runtime_version: str
    providers: list[str]
    state: str
    online: bool
    last_seen_at: datetime


class TargetView(BaseModel):
    id: str
    fingerprint: str
    runtime: RuntimeConfig
    facts: dict[str, Any]
    canary_ms: list[float] = Field(
        description="calibrated latency of each canary when the machine is quiet, ms"
    )
    generation: int = Field(
        1, description="counts the speeds at which its canaries ran under this fingerprint"
    )
    is_current: bool = Field(
        True, description="false: the device has changed since, what was measured then is stale"
    )
    created_at: datetime


class QuarantineRequest(WireModel):
    reason: str = Field(min_length=1, max_length=1000)


class QuarantineView(BaseModel):
    since: datetime
    reason: str
    cure: str


class DifferenceView(BaseModel):
    """How a device differs from another of its class on what both have measured."""

    peer_device: str
    runtime: str = Field(description="key of the runtime, as CPUExecutionProvider/t1/b1/fp32")
    architectures: int = Field(description="architectures that were measured on both")
    median_percent: float = Field(
        description="how much longer they take than on the peer at the median, per cent"
    )
    canary_percent: list[float] = Field(
        description="how much longer each canary takes than on the peer, per cent"
    )
    compared_at: datetime
    cure: str


class DeviceView(BaseModel):
    id: str
    name: str
    online: bool
    created_at: datetime
    last_seen_at: datetime | None
    quarantine: QuarantineView | None = Field(
        None, description="why it is given no work but checks of its canaries; null: it is trusted"
    )
    imported_from: str | None = Field(
        None, description="database whose agents measured it; null for this service's own devices"
    )
    differences: list[DifferenceView] = Field(
        [], description="from devices with the same fingerprint, beyond noise"
    )
    agents: list[AgentView]
    targets: list[TargetView]
