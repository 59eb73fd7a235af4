"""The delivered files of all methods are measured in turn until each is decided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pruning_client.latency.budget import Budget
from pruning_client.latency.readings import Evidence, FileMeasurement
from pruning_client.pipeline.contest.equality import EqualLatency
from pruning_client.pipeline.contest.files import MeasuredFile, measure_in_turn
from pruning_client.pipeline.goals import Goal
from pruning_client.pipeline.job import PruningJob
from pruning_client.pipeline.verify import Verify

FULL = (64,)


def reading(latency_ms: float, half_width: float = 0.002) -> FileMeasurement:
    return FileMeasurement(
        latency_ms=latency_ms,
        lower_ms=latency_ms * (1 - half_width),
        upper_ms=latency_ms * (1 + half_width),
        verdict="ok",
        measurement_id="m",
        target_id="t",
        model_sha256="0" * 64,
    )


@dataclass
class Scripted:
    """A device whose latencies are known."""

    latency_ms: dict[bytes, float]
    asked: list[str] = field(default_factory=list)
    settings: Any = field(default_factory=lambda: SimpleNamespace(verify=Verify()))

    def measure_dense(self) -> tuple[FileMeasurement, ...]:
        self.asked.append("dense")
        return (reading(1.0),)

    def measure(self, data: bytes, _widths: Sequence[int], _phase: str) -> Any:
        self.asked.append(data.decode())
        return (reading(self.latency_ms[data]),)


def files(*names: str) -> dict[str, MeasuredFile]:
    evidence = Evidence.of_dense(Budget(share=0.6), FULL, [reading(1.0)])
    goal = Goal(device=cast(Any, None), predictor=cast(Any, None), evidence=evidence)
    return {name: MeasuredFile(data=name.encode(), widths=(32,), goal=goal) for name in names}


def test_files_take_turns_with_the_dense_network() -> None:
    device = Scripted({b"l1": 0.55, b"l2": 0.65})
    job = cast(PruningJob, device)
    found = measure_in_turn(job, files("l1", "l2"), EqualLatency(readings=2, most_readings=5))
    assert device.asked == ["dense", "l1", "l2"] * 2
    assert found["l1"].outcome(0.975) == "met"
    assert found["l2"].outcome(0.975) == "not met"
    assert found["l2"].measurement.latency_ms == pytest.approx(0.65)
    assert found["l1"].measurement.taken == 2


def test_they_are_measured_again_while_one_is_not_decided() -> None:
    device = Scripted({b"l1": 0.55, b"l2": 0.6})
    job = cast(PruningJob, device)
    measure_in_turn(job, files("l1", "l2"), EqualLatency(readings=1, most_readings=4))
    assert device.asked == ["dense", "l1", "l2"] * 4
