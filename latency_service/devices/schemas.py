"""Wire schemas of devices, their agents, and the targets they offer."""

from __future__ import annotations

import hashlib
import json
from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Precision = Literal["fp32", "int8"]


class RuntimeConfig(BaseModel):
    """The part of a target that a user chooses; everything else of it is a fact of the device."""

    model_config = ConfigDict(frozen=True)

    provider: str = Field("CPUExecutionProvider", description="ONNX Runtime execution provider")
    intra_threads: int = Field(
        1, ge=1, le=256, description="intra-op threads; inter-op is always 1"
    )
    batch: int = Field(1, ge=1, le=4096, description="images per run")
    precision: Precision = "fp32"

    @property
    def key(self) -> str:
        """Canonical form, for example ``CPUExecutionProvider/t1/b1/fp32``."""
        return f"{self.provider}/t{self.intra_threads}/b{self.batch}/{self.precision}"


class Fingerprint(BaseModel):
    """Everything about a target that changes latency; its digest keys measurements and
    predictors.
    """

    model_config = ConfigDict(frozen=True)

    runtime: RuntimeConfig
    facts: dict[str, str | int | float | bool | None] = Field(
        description=(
            "hashed: processor and flags, cores, cgroup quota, governor, ONNX Runtime "
            "version, OS, machine"
        )
    )
    context: dict[str, Any] = Field(
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


class RegisterRequest(BaseModel):
    device: str = Field(min_length=1, max_length=80, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    agent_version: str
    runtime_version: str = Field(description="version of ONNX Runtime on the device")
    max_opset: int = Field(
        description="newest ONNX opset that the device's onnx and ONNX Runtime both take"
    )
    providers: list[str]
    facts: dict[str, Any] = Field(default_factory=dict)
    hardware_ids: list[str] = Field(
        default_factory=list,
        max_length=64,
        description="hashes of serial number and network hardware: tell machines of one name apart",
    )
    instance: str | None = Field(
        None, max_length=64, description="drawn by each start of an agent: tells two copies apart"
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


class HeartbeatRequest(BaseModel):
    state: Literal["idle", "measuring", "stopping"]
    load: float | None = Field(None, description="1-minute load average")
    temperature_c: float | None = None
    attempt_id: str | None = None
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


class DeviceView(BaseModel):
    id: str
    name: str
    online: bool
    created_at: datetime
    last_seen_at: datetime | None
    agents: list[AgentView]
    targets: list[TargetView]
