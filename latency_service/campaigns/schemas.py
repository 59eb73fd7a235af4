"""Wire schemas of campaigns: a set of architectures that somebody wants measured on a target."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import BaseModel, Field, model_validator

from latency_service.core.wire import Duration, Name, Widths, WireModel
from latency_service.devices.schemas import RuntimeConfig
from latency_service.jobs.schemas import QueuePlace
from latency_service.measurements.schemas import LEAST_COMPARED, Protocol

CampaignPurpose = Literal["predictor", "measure"]
CampaignState = Literal["running", "done", "failed", "cancelled"]
CampaignPhase = Literal["lattice", "measuring", "training", "done"]


MAX_SEED = 2**62
#: Rounds in one job's result, which has to travel in one body.
MAX_ROUNDS_PER_JOB = 60_000
USUAL_COUNT = 120
GOAL_COUNT = 400
REPAIR_COUNT = 15
USUAL_REPEATS = 12
USUAL_PEER_REPEATS = 12
MAX_PEER_REPEATS = 64


class CampaignRequest(WireModel):
    """``predictor``: find the lattice if the target has none, sample `count` architectures, measure
    them and train a predictor. ``measure``: measure the given widths and nothing more.

    With a goal a predictor's campaign goes in rounds: after each it trains, and it measures where
    that predictor is most uncertain, until the upper confidence bound of the held-out error is at
    most the goal, the time is spent or `count` is reached.
    """

    space_id: Name
    device: Name
    runtime: RuntimeConfig = RuntimeConfig()
    purpose: CampaignPurpose = "predictor"
    count: int | None = Field(
        None,
        ge=10,
        le=20000,
        description="architectures to sample, at most where there is a goal; those repeated "
        "come on top. By default "
        f"{USUAL_COUNT}, {GOAL_COUNT} with a goal, {REPAIR_COUNT} to repair",
    )
    repeats: int | None = Field(
        None,
        ge=0,
        le=20000,
        description="architectures measured twice, in other jobs, for the repeat difference; "
        "by default a tenth of "
        f"them, {USUAL_REPEATS} at most",
    )
    peer_repeats: int | None = Field(
        None,
        ge=0,
        le=MAX_PEER_REPEATS,
        description="architectures that another device with the same fingerprint measures too, if "
        "there is one, to see whether the two agree; by default a twentieth of a `predictor` "
        f"campaign's, at least {LEAST_COMPARED} and {USUAL_PEER_REPEATS} at most",
    )
    goal_percent: float | None = Field(
        None, gt=0, le=100, description="held-out error to reach, per cent"
    )
    at_most_seconds: Duration | None = Field(
        None, description="time for everything, the lattice included"
    )
    around: Widths | None = Field(
        None, description="measure near these widths [G], for example where a pruning run searches"
    )
    repair: bool = Field(
        False,
        description=(
            "the target has changed: measure a few with the lattice it had, and train "
            "from its predictors"
        ),
    )
    widths: Annotated[list[Widths], Field(fail_fast=True)] | None = Field(
        None, description="for `measure`: the architectures"
    )
    batch_size: int = Field(16, ge=1, le=256, description="architectures per job")
    protocol: Protocol = Protocol()
    seed: int = Field(0, ge=0, le=MAX_SEED)

    @model_validator(mode="after")
    def _check_rounds(self) -> Self:
        if self.batch_size * self.protocol.max_rounds > MAX_ROUNDS_PER_JOB:
            raise ValueError(
                f"batch_size times protocol.max_rounds is more than {MAX_ROUNDS_PER_JOB}: the "
                "result of such a job could not be sent"
            )
        return self

    def resolved_count(self) -> int:
        """Architectures to sample."""
        if self.count is not None:
            return self.count
        return (
            REPAIR_COUNT
            if self.repair
            else USUAL_COUNT
            if self.goal_percent is None
            else GOAL_COUNT
        )

    def resolved_peer_repeats(self) -> int:
        """Of them to be measured by a second device, no more than one job may hold."""
        if self.peer_repeats is not None:
            wanted = self.peer_repeats
        elif self.purpose == "measure":
            wanted = 0
        else:
            share = -(-self.resolved_count() // 20)
            wanted = min(max(LEAST_COMPARED, share), USUAL_PEER_REPEATS)
        return min(wanted, MAX_ROUNDS_PER_JOB // self.protocol.max_rounds)

    def resolved_repeats(self) -> int:
        """Of them to be measured twice."""
        return (
            min(USUAL_REPEATS, -(-self.resolved_count() // 10))
            if self.repeats is None
            else self.repeats
        )


class RoundView(BaseModel):
    """What one training of a campaign has shown, on held-out architectures."""

    measurements: int = Field(description="architectures trained on")
    error_percent: float = Field(description="mean absolute percentage error")
    error_at_most_percent: float = Field(
        description="upper confidence bound of the error: one-sided, 95 %"
    )
    floor_percent: float | None = Field(
        description="median difference between repeated measurements"
    )


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
    queue: QueuePlace | None = Field(
        None,
        description="place of its next job, and the time until all jobs queued so far have ended; "
        "null when none waits for the device",
    )
    goal_percent: float | None = None
    at_most_seconds: float | None = None
    around: list[int] | None = None
    repair: bool = False
    rounds: list[RoundView] = Field([], description="one for each training, oldest first")
    goal_met: bool | None = Field(
        None,
        description="whether the upper confidence bound of the error is at most the goal; "
        "null without one",
    )
