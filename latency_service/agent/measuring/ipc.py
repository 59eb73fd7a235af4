"""What the agent tells a measuring process, and what it is told back: JSON files in a folder of
their own.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from latency_service.core.text import MAX_LOG, MAX_MESSAGE
from latency_service.devices.schemas import RuntimeConfig
from latency_service.jobs.schemas import FailureKind
from latency_service.measurements.schemas import ArchitectureResult, Calibration, Protocol

TASK_FILE = "task.json"
RESULT_FILE = "result.json"
#: Touched while the process gets on: one that is silent for too long hangs.
ALIVE_FILE = "alive"
FAILURE_FILE = "failure.json"
#: The graph to measure: a search space, or a delivered file.
GRAPH_FILE = "graph.onnx"
#: The graph that a delivered file's reference is made of.
REFERENCE_FILE = "reference.onnx"


class MeasuringTask(BaseModel):
    """One measuring process. ``calibrate`` reads the canaries only; ``model`` measures the file
    just as it is.
    """

    model_config = ConfigDict(frozen=True)

    source: Literal["calibrate", "space", "model"]
    runtime: RuntimeConfig
    protocol: Protocol = Protocol()
    calibration: Calibration | None = Field(None, description="null for `calibrate`")
    calibrate_seconds: float = 2.0
    canaries: list[str] | None = Field(
        None,
        description="names of those to read; null: the process chooses what suits the device",
    )
    widths: list[list[int]] = Field(default_factory=list, description="architectures of a `space`")
    seed: int = 0
    reference: Literal["space", "model"] | None = Field(
        None,
        description="what the reference network is made of: a search space, at full width, or a "
        "file just as it is; null without a reference",
    )
    is_own: bool = Field(
        False,
        description="the files are those of this machine's user: operators of any origin, any size",
    )
    memory_bytes: int | None = Field(
        None, description="most private memory that the process may hold"
    )
    cpu_seconds: int | None = Field(None, description="most processor time that it may use")
    file_bytes: int | None = Field(None, description="largest file that it may write")


class CanaryReadings(BaseModel):
    """What the canaries showed in one process, in their order, ms."""

    model_config = ConfigDict(frozen=True)

    canaries: list[str] = Field(description="names, fastest first")
    floor_ms: list[float] = Field(description="5th percentile of the readings")
    typical_ms: list[float] = Field(description="median of the readings")
    count: int


class ChildResult(BaseModel):
    model_config = ConfigDict(frozen=True)

    results: list[ArchitectureResult]
    readings: CanaryReadings
    reference: CanaryReadings | None = Field(
        None, description="of the reference network; null where there is none, or it cannot run"
    )
    wall_seconds: float = Field(description="since the process began")
    clock_seconds: float = Field(
        0.0, description="monotonic clock that the rounds' `at_seconds` count from"
    )
    timed_seconds: float = Field(
        description="of it, inside timed runs, those of canaries and warm-up among them"
    )


class MeasuringFailed(Exception):
    """A measurement that did not succeed: a typed failure, with the end of the process's log."""

    def __init__(self, kind: FailureKind, message: str, log_tail: str = "") -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message[:MAX_MESSAGE]
        self.log_tail = log_tail[-MAX_LOG:]
