"""Wire schemas of verifications."""

from __future__ import annotations

from pydantic import Field

from latency_service.core.wire import Name, Widths, WireModel
from latency_service.devices.schemas import RuntimeConfig
from latency_service.measurements.schemas import Protocol


class VerifyRequest(WireModel):
    """Measure a delivered file (uploaded before to ``PUT /v1/models/{sha256}``) on a device."""

    device: Name
    model_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    space_id: Name
    widths: Widths | None = Field(
        None, description="the widths it was pruned to, for refining the predictor"
    )
    runtime: RuntimeConfig = RuntimeConfig()
    protocol: Protocol | None = None
