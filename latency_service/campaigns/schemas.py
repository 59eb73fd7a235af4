"""Wire schemas of campaigns: a set of architectures that somebody wants measured on a target."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field

from latency_service.devices.schemas import RuntimeConfig
from latency_service.measurements.schemas import Protocol

CampaignPurpose = Literal["predictor", "measure"]
CampaignState = Literal["running", "done", "failed", "cancelled"]
CampaignPhase = Literal["lattice", "measuring", "training", "done"]


class CampaignRequest(BaseModel):
    """``predictor``: find the lattice if the target has none, sample `count` architectures, measure them and train
    a predictor. ``measure``: measure the given widths and nothing more."""

    space_id: str
    device: str
    runtime: RuntimeConfig = RuntimeConfig()
    purpose: CampaignPurpose = "predictor"
    count: int = Field(120, ge=8, le=20000, description="architectures to sample; those repeated come on top")
    repeats: int = Field(12, ge=0, description="architectures measured twice, in other jobs, for the repeat difference")
    widths: list[list[int]] | None = Field(None, description="for `measure`: the architectures")
    batch_size: int = Field(16, ge=1, le=256, description="architectures per job")
    protocol: Protocol = Protocol()
    seed: int = 0


class CampaignView(BaseModel):
    id: str
    space_id: str
    device_id: str
    device: str
    runtime: RuntimeConfig
    purpose: CampaignPurpose
    state: CampaignState
    phase: CampaignPhase
    jobs_total: int
    jobs_done: int
    jobs_failed: int
    architectures_total: int
    architectures_measured: int
    created_at: datetime
    finished_at: datetime | None
    predictor_id: str | None
    failure: str | None = Field(description="cause and cure, when the campaign failed")
