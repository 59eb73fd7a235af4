"""The measuring process: a batch of architectures, interleaved with the canaries in rounds.

``python -m latency_service.agent.measuring.child FOLDER PARENT`` reads the task and the graph in
FOLDER and writes the result, or the failure, to the same folder; PARENT is the process id of the
agent. Whatever may crash, hang or exhaust the memory runs in this process and nowhere else.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from onnx import ModelProto

from latency_service.agent.measuring import pinning
from latency_service.agent.measuring.canaries import CANARIES, build
from latency_service.agent.measuring.interference import Witness, disturbance
from latency_service.agent.measuring.ipc import (
    FAILURE_FILE,
    GRAPH_FILE,
    REFERENCE_FILE,
    RESULT_FILE,
    TASK_FILE,
    CanaryReadings,
    ChildResult,
    MeasuringFailed,
    MeasuringTask,
)
from latency_service.agent.measuring.sessions import Network, classify, open_network
from latency_service.agent.measuring.timing import CANARY_MS, Stopwatch
from latency_service.devices.schemas import RuntimeConfig
from latency_service.jobs.schemas import Failure
from latency_service.measurements.schemas import ArchitectureResult, Round
from latency_service.measurements.statistics import summarise
from latency_service.spaces.slicing import SearchSpace, materialise
from latency_service.spaces.weightless import draw_weights

#: Rounds that every architecture gets whatever the budget says.
LEAST_ROUNDS = 3
#: The interval is looked at once in this many rounds: it costs as much as a short run.
LOOK_EVERY = 3
#: Time in the runs of the reference in one reading, and number of runs at least.
REFERENCE_MS = 2.0
REFERENCE_RUNS = 2
FAILED = 3


@dataclass(kw_only=True)
class _Subject:
    """One architecture while it is measured."""

    network: Network
    rounds: list[Round] = field(default_factory=list)
    stopped: str | None = None


class Reading(NamedTuple):
    """One reading of every canary, and of the reference where there is one, ms."""

    canaries: list[float]
    reference: float | None


class Bench:
    """The canaries and the reference of this process, and the readings of them."""

    def __init__(
        self, runtime: RuntimeConfig, cores: Sequence[int], reference: Network | None = None
    ) -> None:
        alone = runtime.model_copy(update={"batch": 1, "precision": "fp32"})
        self._networks = [open_network(build(canary), alone) for canary in CANARIES]
        self._reference = reference
        self._witness = Witness(cores)
        self.began = time.monotonic()
        self.watch = Stopwatch()
        self.readings: list[Reading] = []

    def warm_up(self, task: MeasuringTask, networks: Sequence[Network] = ()) -> None:
        reference = [] if self._reference is None else [self._reference]
        for network in (*self._networks, *reference, *networks):
            self.watch.warm_up(network, task.protocol)

    def read(self) -> Reading:
        canaries = [
            self.watch.visit(network, CANARY_MS, canary.least_runs).latency_ms
            for canary, network in zip(CANARIES, self._networks, strict=True)
        ]
        self.readings.append(Reading(canaries, self._read_reference()))
        return self.readings[-1]

    def round(self, network: Network, before: Reading, milliseconds: float) -> Round:
        first = self._witness.look()
        at = time.monotonic() - self.began
        visit = self.watch.visit(network, milliseconds)
        after = self.read()
        last = self._witness.look()
        interrupted = "its fastest runs were interrupted" if visit.interrupted else None
        return Round(
            at_seconds=at,
            latency_ms=visit.latency_ms,
            runs=visit.runs,
            before_ms=before.canaries,
            after_ms=after.canaries,
            reference_ms=_both(before.reference, after.reference),
            contenders=max(first.contenders, last.contenders),
            disturbed=disturbance(first, last) or interrupted,
        )

    def summary(self) -> CanaryReadings:
        return _summary([reading.canaries for reading in self.readings])

    def reference_summary(self) -> CanaryReadings | None:
        """Readings of the reference; None without one."""
        table = [[r.reference] for r in self.readings if r.reference is not None]
        return _summary(table) if table else None

    def _read_reference(self) -> float | None:
        if self._reference is None:
            return None
        return self.watch.visit(self._reference, REFERENCE_MS, REFERENCE_RUNS).latency_ms


def _both(before: float | None, after: float | None) -> tuple[float, float] | None:
    return None if before is None or after is None else (before, after)


def _summary(readings: Sequence[Sequence[float]]) -> CanaryReadings:
    table = np.asarray(readings)
    return CanaryReadings(
        floor_ms=np.percentile(table, 5, axis=0).tolist(),
        typical_ms=np.median(table, axis=0).tolist(),
        count=len(table),
    )


def measure(task: MeasuringTask, folder: Path, cores: Sequence[int], began: float) -> ChildResult:
    """Carry out a task; `began` is the clock when the process started.

    Raises:
        MeasuringFailed: a network is not valid here, or cannot run.
    """
    bench = Bench(task.runtime, cores, _reference(task, folder))
    results = _calibrate(task, bench) if task.source == "calibrate" else _batch(task, folder, bench)
    return ChildResult(
        results=results,
        readings=bench.summary(),
        reference=bench.reference_summary(),
        wall_seconds=time.perf_counter() - began,
        timed_seconds=bench.watch.timed_seconds,
        clock_seconds=bench.began,
    )


def _calibrate(task: MeasuringTask, bench: Bench) -> list[ArchitectureResult]:
    """Read the canaries only; there are no results."""
    bench.warm_up(task)
    end = time.perf_counter() + task.calibrate_seconds
    while time.perf_counter() < end:
        bench.read()
    return []


def _batch(task: MeasuringTask, folder: Path, bench: Bench) -> list[ArchitectureResult]:
    subjects = [
        _Subject(
            network=open_network(
                model, task.runtime, seed=task.seed, folder=_quantised(task.source, folder)
            )
        )
        for model in _models(task, folder)
    ]
    bench.warm_up(task, [subject.network for subject in subjects])
    _rounds(task, bench, subjects)
    return [
        ArchitectureResult.model_validate(
            {"index": index, "rounds": s.rounds, "stopped": s.stopped}
        )
        for index, s in enumerate(subjects)
    ]


def _rounds(task: MeasuringTask, bench: Bench, subjects: Sequence[_Subject]) -> None:
    """Add rounds in random order until every subject is precise or the time is spent."""
    order = random.Random(task.seed)
    active = list(subjects)
    deadline = time.perf_counter() + task.protocol.budget_seconds * len(subjects)
    before = bench.read()
    while active:
        order.shuffle(active)
        for subject in active:
            subject.rounds.append(bench.round(subject.network, before, task.protocol.round_ms))
            before = bench.readings[-1]
            subject.stopped = _stopped(task, subject.rounds, time.perf_counter() > deadline)
        active = [subject for subject in active if subject.stopped is None]


def _stopped(task: MeasuringTask, rounds: Sequence[Round], late: bool) -> str | None:
    """Why a subject gets no more rounds; nothing while it should."""
    protocol = task.protocol
    count = len(rounds)
    enough = count >= protocol.min_rounds and (
        (count - protocol.min_rounds) % LOOK_EVERY == 0 or late
    )
    if (
        enough
        and task.calibration
        and summarise(rounds, task.calibration, protocol).verdict == "ok"
    ):
        return "precise"
    if count >= protocol.max_rounds:
        return "rounds"
    return "budget" if late and count >= LEAST_ROUNDS else None


def _models(task: MeasuringTask, folder: Path) -> list[ModelProto]:
    data = (folder / GRAPH_FILE).read_bytes()
    if task.source == "model":
        return [onnx.load_model_from_string(data)]
    space = SearchSpace.from_bytes(data)
    return [draw_weights(materialise(space, widths), task.seed) for widths in task.widths]


def _reference(task: MeasuringTask, folder: Path) -> Network | None:
    """The reference network; None without one, or where this device cannot run it.

    Architectures that are narrow enough can be measured all the same.
    """
    if task.reference is None:
        return None
    source = GRAPH_FILE if task.source == "space" else REFERENCE_FILE
    data = (folder / source).read_bytes()
    try:
        return open_network(
            _reference_model(task.reference, data),
            task.runtime,
            folder=_quantised(task.reference, folder),
        )
    except Exception as error:  # noqa: BLE001 - whatever a stranger's graph does
        print(f"no reference network: {error}", file=sys.stderr)
        return None


def _reference_model(source: str, data: bytes) -> ModelProto:
    if source == "model":
        return onnx.load_model_from_string(data)
    space = SearchSpace.from_bytes(data)
    return draw_weights(materialise(space, space.full_widths), 0)


def _quantised(source: str, folder: Path) -> Path | None:
    """Where to quantise; a delivered file is measured in the precision that it has."""
    return folder if source == "space" else None


def main(folder: Path, parent: int) -> int:
    began = time.perf_counter()
    task = MeasuringTask.model_validate_json((folder / TASK_FILE).read_bytes())
    cores = pinning.apply(task, parent)
    try:
        answer = measure(task, folder, cores, began)
    except Exception as error:  # noqa: BLE001 - whatever a stranger's graph does is a typed failure
        failed = error if isinstance(error, MeasuringFailed) else classify(error)
        (folder / FAILURE_FILE).write_text(
            Failure(kind=failed.kind, message=failed.message).model_dump_json()
        )
        return FAILED
    (folder / RESULT_FILE).write_text(answer.model_dump_json())
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
