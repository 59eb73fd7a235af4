"""The profiler: calibration before the first measurement of a target, and what a single file
gets.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from latency_service.agent.measuring.canaries import CANARIES, build
from latency_service.agent.measuring.ipc import (
    CanaryReadings,
    ChildResult,
    MeasuringFailed,
    MeasuringTask,
)
from latency_service.agent.measuring.profiler import (
    CALIBRATING_PROCESSES,
    FILE_ROUNDS,
    Profiler,
    Reference,
    measure_file,
)
from latency_service.agent.measuring.sessions import random_feeds
from latency_service.core import locks
from latency_service.core.quantisation import Quantiser
from latency_service.devices.schemas import RuntimeConfig
from latency_service.measurements.schemas import ArchitectureResult, Protocol, Round

NAMES = ["tiny", "half", "full", "wide"]
FLOOR_MS = [0.1, 0.35, 0.9, 3.0]


class Processes:
    """Stands for the sandbox: answers with made-up readings and keeps the tasks."""

    def __init__(self, readings: int = 30) -> None:
        self.tasks: list[MeasuringTask] = []
        self.references: list[bytes | None] = []
        self._readings = readings

    def __call__(
        self, task: MeasuringTask, graph: bytes | None, *, reference: bytes | None = None, **_: Any
    ) -> ChildResult:
        self.tasks.append(task)
        self.references.append(reference)
        visit = Round(at_seconds=0, latency_ms=0.5, runs=5, before_ms=FLOOR_MS, after_ms=FLOOR_MS)
        count = {"calibrate": 0, "model": 1, "space": len(task.widths)}[task.source]
        return ChildResult(
            results=[
                ArchitectureResult(index=i, rounds=[visit] * 9, stopped="precise")
                for i in range(count)
            ],
            readings=CanaryReadings(
                canaries=NAMES, floor_ms=FLOOR_MS, typical_ms=FLOOR_MS, count=self._readings
            ),
            reference=CanaryReadings(
                canaries=["reference"], floor_ms=[2.0], typical_ms=[2.0], count=self._readings
            )
            if task.reference
            else None,
            wall_seconds=1,
            timed_seconds=0.5,
        )


def test_a_target_is_calibrated_once(tmp_path: Path) -> None:
    processes = Processes()
    for _ in range(2):
        Profiler(tmp_path, processes).batch(b"", [[4], [8]], RuntimeConfig(), Protocol())
    sources = [task.source for task in processes.tasks]
    assert sources == ["calibrate"] * CALIBRATING_PROCESSES + ["space", "space"]
    calibrations = [task.calibration for task in processes.tasks if task.source == "space"]
    assert all(one is not None and one.floor_ms == FLOOR_MS for one in calibrations)


def test_another_runtime_is_calibrated_anew(tmp_path: Path) -> None:
    processes = Processes()
    for threads in (1, 2):
        Profiler(tmp_path, processes).batch(
            b"", [[4]], RuntimeConfig(intra_threads=threads), Protocol()
        )
    assert [task.source for task in processes.tasks].count("calibrate") == 2 * CALIBRATING_PROCESSES


def test_a_device_whose_canaries_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(MeasuringFailed) as caught:
        Profiler(tmp_path, Processes(readings=3)).batch(b"", [[4]], RuntimeConfig(), Protocol())
    assert caught.value.kind == "device_unhealthy"


def test_a_single_file_gets_more_rounds_but_not_fewer_than_asked(tmp_path: Path) -> None:
    processes = Processes()
    profiler = Profiler(tmp_path, processes)
    profiler.file(b"", RuntimeConfig(), Protocol(min_rounds=9))
    profiler.file(b"", RuntimeConfig(), Protocol(min_rounds=500, max_rounds=600, budget_seconds=99))
    short, long = (task.protocol for task in processes.tasks if task.source == "model")
    assert short.min_rounds == FILE_ROUNDS
    assert (long.min_rounds, long.max_rounds, long.budget_seconds) == (500, 600, 99)


def test_nothing_else_of_ours_computes_while_a_network_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "WAIT_SECONDS", 0.0)
    free = []

    class Watched(Processes):
        def __call__(self, task: MeasuringTask, graph: bytes | None, **more: Any) -> ChildResult:
            with locks.turn() as held:
                free.append(held)
            return super().__call__(task, graph, **more)

    monkeypatch.setattr(locks, "lock_path", lambda: tmp_path / "lock")
    Profiler(tmp_path, Watched()).file(b"", RuntimeConfig(), Protocol())
    assert free == [False] * (CALIBRATING_PROCESSES + 1)


def test_measures_a_file_with_no_service_at_all(tmp_path: Path) -> None:
    path = tmp_path / "tiny.onnx"
    path.write_bytes(build(CANARIES[0]).SerializeToString())
    found = measure_file(
        path, RuntimeConfig(), Protocol(half_width=0.5), state_dir=tmp_path / "state"
    )
    assert len(found.rounds) >= FILE_ROUNDS
    # the tiny canary measured as a stranger's file agrees with itself as a canary
    assert found.summary.latency_ms == pytest.approx(found.calibration.floor_ms[0], rel=0.25)
    assert found.fingerprint.runtime == RuntimeConfig()
    again = Path(tmp_path / "state" / "calibration" / f"{found.fingerprint.digest}.json")
    assert again.exists()


def test_an_int8_file_is_called_int8(tmp_path: Path, profiler_state: Path) -> None:
    model = build(CANARIES[0])
    path = tmp_path / "int8.onnx"
    path.write_bytes(Quantiser(model, [random_feeds(model, 0)]).quantised().SerializeToString())
    found = measure_file(path, RuntimeConfig(), Protocol(half_width=0.5), state_dir=profiler_state)
    assert found.fingerprint.runtime.key == "CPUExecutionProvider/t1/b1/int8"


@pytest.mark.parametrize("given", ["fp32", "int8"])
def test_a_file_of_another_precision_than_the_target_is_refused(
    profiler_state: Path, given: Literal["fp32", "int8"]
) -> None:
    """Its latency would be learnt from as if it were the target's."""
    model = build(CANARIES[0])
    if given == "int8":
        model = Quantiser(model, [random_feeds(model, 0)]).quantised()
    other = RuntimeConfig(precision="fp32" if given == "int8" else "int8")
    with pytest.raises(MeasuringFailed, match=f"the file is {given}") as caught:
        Profiler(profiler_state).file(model.SerializeToString(), other, Protocol())
    assert caught.value.kind == "model_invalid"
    assert f"precision {given}" in caught.value.message


def test_a_file_is_measured_beside_the_reference_of_its_space(tmp_path: Path) -> None:
    """Batches of a space and files of it share the reference and its floor."""
    processes = Processes()
    profiler = Profiler(tmp_path, processes)
    batch = profiler.batch(b"space", [[4]], RuntimeConfig(), Protocol())
    file = profiler.file(
        b"file", RuntimeConfig(), Protocol(), reference=Reference("space", b"space")
    )
    assert batch.calibration.reference_ms == file.calibration.reference_ms == 2.0
    assert processes.references[-2:] == [None, b"space"]
    known = processes.tasks[-1].calibration
    assert known is not None
    assert known.reference_ms == 2.0
    alone = profiler.file(b"file", RuntimeConfig(), Protocol())
    assert alone.calibration.reference_ms is None


def test_two_files_are_compared_in_the_same_rounds(tmp_path: Path, profiler_state: Path) -> None:
    """A real process: the file against itself takes as long as itself."""
    path = tmp_path / "canary.onnx"
    path.write_bytes(build(CANARIES[0]).SerializeToString())
    quick = Protocol(min_rounds=9, max_rounds=30, warmup_min_seconds=0.01, budget_seconds=2.0)
    found = measure_file(path, RuntimeConfig(), quick, reference=path, state_dir=profiler_state)
    assert all(one.reference_ms is not None for one in found.rounds)
    assert found.summary.reference_ms is not None
    assert found.summary.latency_ms == pytest.approx(found.summary.reference_ms, rel=0.25)


def test_a_reference_that_cannot_run_here_is_left_out(tmp_path: Path, profiler_state: Path) -> None:
    path = tmp_path / "canary.onnx"
    path.write_bytes(build(CANARIES[0]).SerializeToString())
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    found = measure_file(path, RuntimeConfig(), reference=broken, state_dir=profiler_state)
    assert found.summary.reference_ms is None
    assert all(one.reference_ms is None for one in found.rounds)
