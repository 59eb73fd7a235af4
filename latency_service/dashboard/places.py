"""On what a number was measured: shown beside every latency."""

from __future__ import annotations

from pydantic import BaseModel, Field

from latency_service.devices.models import Target
from latency_service.devices.schemas import RuntimeConfig


class Place(BaseModel):
    """A target in words."""

    target_id: str
    device: str
    runtime: RuntimeConfig
    fingerprint: str
    is_current: bool = Field(description="false: the device has changed since")

    @property
    def text(self) -> str:
        """Device and runtime, such as ``board · CPU · 1 thread · batch 1 · fp32``."""
        return f"{self.device} · {runtime_text(self.runtime)}"


def place_of(target: Target) -> Place:
    return Place(
        target_id=target.id,
        device=target.device.name,
        runtime=RuntimeConfig.model_validate(target.runtime),
        fingerprint=target.fingerprint,
        is_current=target.is_current,
    )


def runtime_text(runtime: RuntimeConfig) -> str:
    """A runtime configuration in words."""
    threads = runtime.intra_threads
    count = "1 thread" if threads == 1 else f"{threads} threads"
    provider = runtime.provider.removesuffix("ExecutionProvider")
    return f"{provider} · {count} · batch {runtime.batch} · {runtime.precision}"
