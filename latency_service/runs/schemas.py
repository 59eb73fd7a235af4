"""Wire schemas of runs: pruning runs of the client, recorded beside the measurements that prove
them, while they go on and when they have ended.
"""

from __future__ import annotations

from datetime import datetime
from math import inf
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from latency_service.core.text import MAX_MESSAGE
from latency_service.core.wire import MAX_GROUPS, MAX_INTEGER, Count, Name, Widths, WireModel

RunState = Literal["running", "done", "failed"]
#: Maximum number of entries of one report of progress.
MAX_ENTRIES = 2000
#: Maximum length of the name of what a run is doing.
MAX_PHASE = 120


def _positive(value: float | None) -> float | None:
    return value if value is not None and 0 < value < inf else None


#: A latency; None stands for one that cannot be, as for one that is missing.
Positive = Annotated[float | None, AfterValidator(_positive)]


class NetworkSummary(BaseModel):
    """A measured network of a run. Latencies in ms, accuracy in per cent."""

    model_config = ConfigDict(extra="ignore")

    latency_ms: Positive = None
    lower_ms: Positive = Field(None, description="of the 95 % interval")
    upper_ms: Positive = None
    accuracy: float | None = None
    parameters: int | None = None
    macs: int | None = None
    file_bytes: int | None = None

    @model_validator(mode="after")
    def _whole_interval(self) -> NetworkSummary:
        """An interval has both ends and its value between them, or there is none."""
        ends = (self.lower_ms, self.latency_ms, self.upper_ms)
        if None in ends or list(ends) != sorted(ends, key=lambda end: end or 0.0):
            self.lower_ms = self.upper_ms = None
        return self


class RunSummary(BaseModel):
    """What lists and comparisons show of a run's report."""

    model_config = ConfigDict(extra="ignore")

    outcome: str | None = Field(None, description="met, not met or not decided")
    over_percent: float | None = Field(
        None, description="relative excess of the measured latency over the budget"
    )
    device: str | None = None
    fingerprint: str | None = None
    seed: int | None = None
    command: str | None = Field(None, description="command that reproduces the run")
    dense: NetworkSummary = NetworkSummary()
    pruned: NetworkSummary = NetworkSummary()


class RunRequest(WireModel):
    """A run that begins, or with its report one that has ended."""

    name: str = Field(min_length=1, max_length=120)
    method: Name
    space_id: Name
    predictor_id: Name | None
    budget_ms: float = Field(gt=0, le=1e9)
    dense_ms: float | None = Field(
        None, gt=0, le=1e9, description="measured latency of the dense network"
    )
    dense_accuracy: float | None = Field(None, description="of the dense network, per cent")
    report: dict[str, Any] | None = Field(
        None, description="the run's report.json; null while it goes on"
    )


class HistoryEntry(WireModel):
    """One step of training: what a method adds to it is kept as it is."""

    model_config = ConfigDict(extra="allow")

    phase: Name
    step: int = Field(ge=0, le=MAX_INTEGER, description="of this phase")
    loss: float | None = None
    accuracy: float | None = Field(None, description="on held-out data, per cent")
    latency_ms: float | None = Field(None, description="predicted")
    widths: list[float] | None = Field(None, max_length=MAX_GROUPS, description="of each group [G]")


class RunVerification(WireModel):
    """One measurement of a whole file. Latencies in ms."""

    model_config = ConfigDict(extra="allow")

    stage: Name = Field(description="dense, structure or delivered")
    widths: Widths
    predicted_ms: float | None
    latency_ms: float = Field(gt=0)
    lower_ms: float
    upper_ms: float
    verdict: Name
    measurement_id: Name
    device: Name = ""


class RunProgress(WireModel):
    """What has happened since the last report of progress. Sending it twice changes nothing."""

    phase: str = Field(max_length=MAX_PHASE)
    done: Count = 0
    total: Count = Field(0, description="0 while it is unknown")
    first: int = Field(
        0, ge=0, le=1_000_000, description="index in the history of the first of `entries`"
    )
    entries: list[HistoryEntry] = Field(default_factory=list, max_length=MAX_ENTRIES)
    verifications: list[RunVerification] | None = Field(
        None, max_length=MAX_ENTRIES, description="all so far; null where there are no new ones"
    )


class RunReport(WireModel):
    """The end of a run that has a result."""

    report: dict[str, Any] = Field(description="the run's report.json")


class RunFailure(WireModel):
    """The end of a run without a result."""

    message: str = Field(min_length=1, max_length=MAX_MESSAGE)


class RunView(RunRequest):
    id: str
    state: RunState
    phase: str | None = None
    done: int | None = None
    total: int | None = None
    failure: str | None = None
    summary: RunSummary | None = Field(None, description="of the report")
    created_at: datetime
    updated_at: datetime = Field(description="when the client was last heard of")
