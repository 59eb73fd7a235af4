"""The measuring process: a batch of architectures, interleaved with the canaries in rounds.

``python -m latency_service.agent.measuring.child FOLDER PARENT`` reads the task and the graph in
FOLDER and writes the result, or the failure, to the same folder; PARENT is the process id of the
agent. Whatever may crash, hang or exhaust the memory runs in this process and nowhere else.
"""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

import onnx
from onnx import ModelProto

from latency_service.agent.measuring import pinning, threads
from latency_service.agent.measuring.bench import Bench
from latency_service.agent.measuring.calibration import LEAST_READINGS
from latency_service.agent.measuring.ipc import (
    ALIVE_FILE,
    FAILURE_FILE,
    GRAPH_FILE,
    REFERENCE_FILE,
    RESULT_FILE,
    TASK_FILE,
    ChildResult,
    MeasuringFailed,
    MeasuringTask,
)
from latency_service.agent.measuring.sessions import Network, classify, open_network
from latency_service.agent.measuring.timing import LEAST_RUNS, Stopwatch
from latency_service.core import graphs
from latency_service.core.quantisation import precision_of
from latency_service.core.text import MAX_MESSAGE, plain
from latency_service.devices.schemas import RuntimeConfig
from latency_service.jobs.schemas import Failure
from latency_service.measurements.schemas import ArchitectureResult, Protocol, Round
from latency_service.measurements.statistics import summarise
from latency_service.spaces.sizes import measure as measure_sizes
from latency_service.spaces.slicing import SearchSpace, materialise
from latency_service.spaces.weightless import draw_weights

#: Rounds that every architecture gets whatever the budget says.
LEAST_ROUNDS = 3
#: The interval is looked at once in this many rounds: it costs as much as a short run.
LOOK_EVERY = 3
#: Longest round that the protocol's budget is meant for: where rounds take longer, on a slower
#: device, the budget grows in proportion.
USUAL_ROUND_MS = 50.0
#: Sessions of a file that is measured by itself, taken in turn. Where a session's memory lies
#: changes its latency (standard deviation .3 % for a ResNet-20 of .3 ms on a quiet machine, between
#: rounds of one session .06 %), and a user's session may lie anywhere. Further sessions are opened
#: while that takes at most this share of the protocol's budget, and all at most so much memory.
FILE_SESSIONS = 4
SESSIONS_SHARE_OF_BUDGET = 0.1
SESSIONS_BYTES = 256 * 2**20
#: A process that calibrates goes on until it has enough readings, but no longer than this.
CALIBRATE_MOST_SECONDS = 60.0
#: How often a process says that it gets on, at most.
_ALIVE_SECONDS = 1.0
FAILED = 3


@dataclass(kw_only=True)
class _Subject:
    """One architecture while it is measured."""

    #: Its sessions; a round runs one of them.
    networks: Sequence[Network]
    rounds: list[Round] = field(default_factory=list)
    stopped: str | None = None

    @property
    def network(self) -> Network:
        """The session of the next round."""
        return self.networks[len(self.rounds) % len(self.networks)]


def measure(
    task: MeasuringTask,
    folder: Path,
    cores: Sequence[int],
    *,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
    began_ns: int | None = None,
) -> ChildResult:
    """Carry out a task.

    Args:
        folder: of the task's graphs.
        cores: that are measured on.
        began_ns: the clock when the process started; by default now.

    Raises:
        MeasuringFailed: a network is not valid here, cannot run or is too slow to be measured.
    """
    began_ns = clock_ns() if began_ns is None else began_ns
    alive = _Alive(folder / ALIVE_FILE)
    bench = Bench(
        task.runtime,
        cores,
        Stopwatch(clock_ns, alive),
        canaries=task.canaries,
        reference=_reference(task, folder),
        calibration=task.calibration,
        visit_ms=task.protocol.round_ms,
    )
    results = (
        _calibrate(task, bench)
        if task.source == "calibrate"
        else _batch(task, folder, bench, alive)
    )
    return ChildResult(
        results=results,
        readings=bench.summary(),
        reference=bench.reference_summary(),
        wall_seconds=(clock_ns() - began_ns) / 1e9,
        timed_seconds=bench.watch.timed_seconds,
        clock_seconds=bench.clock_seconds,
    )


class _Alive:
    """A sign of life for the agent: a file that is touched, at most once a second."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = 0.0

    def __call__(self) -> None:
        now = time.monotonic()
        if now >= self._next:
            self._path.touch()
            self._next = now + _ALIVE_SECONDS


def _calibrate(task: MeasuringTask, bench: Bench) -> list[ArchitectureResult]:
    """Read the canaries only, until there are enough readings; there are no results."""
    bench.warm_up(task.protocol)
    began = bench.watch.seconds()
    while (passed := bench.watch.seconds() - began) < task.calibrate_seconds or (
        len(bench.readings) < LEAST_READINGS and passed < CALIBRATE_MOST_SECONDS
    ):
        bench.read()
    if len(bench.readings) < LEAST_READINGS:
        raise MeasuringFailed(
            "device_unhealthy",
            f"the canaries {', '.join(bench.canaries)} were read {len(bench.readings)} times in "
            f"{passed:.0f} s, {LEAST_READINGS} are needed to calibrate: this device is too slow, "
            "or too busy. Stop what else runs on it; `latency-service doctor` examines it.",
        )
    return []


def _batch(
    task: MeasuringTask, folder: Path, bench: Bench, alive: Callable[[], None]
) -> list[ArchitectureResult]:
    subjects = []
    for model in _models(task, folder):
        subjects.append(_Subject(networks=_sessions(task, folder, model, bench.watch)))
        alive()
    networks = [network for subject in subjects for network in subject.networks]
    _rounds(task, bench, subjects, bench.warm_up(task.protocol, networks))
    bench.complete()
    return [
        ArchitectureResult.model_validate(
            {"index": index, "rounds": s.rounds, "stopped": s.stopped}
        )
        for index, s in enumerate(subjects)
    ]


def _sessions(
    task: MeasuringTask, folder: Path, model: ModelProto, watch: Stopwatch
) -> list[Network]:
    """The sessions of one architecture: several of a file, one of each architecture of a space."""
    began = watch.seconds()

    def opened() -> Network:
        own = ModelProto()
        own.CopyFrom(model)  # opening changes the graph
        return open_network(
            own, task.runtime, seed=task.seed, folder=_quantised(task.source, folder)
        )

    first = opened()
    if task.source != "model":
        return [first]
    took_seconds = watch.seconds() - began
    further = further_sessions(task.protocol, took_seconds, model.ByteSize())
    return [first, *(opened() for _ in range(further))]


def further_sessions(protocol: Protocol, took_seconds: float, size_bytes: int) -> int:
    """Number of sessions of a file beside the first one.

    Args:
        took_seconds: time that opening the first one took.
        size_bytes: of the file.
    """
    in_time = SESSIONS_SHARE_OF_BUDGET * protocol.budget_seconds / max(took_seconds, 1e-9)
    in_memory = max(0, SESSIONS_BYTES // max(size_bytes, 1) - 1)
    return int(min(FILE_SESSIONS - 1, in_time, in_memory))


def _rounds(
    task: MeasuringTask, bench: Bench, subjects: Sequence[_Subject], runs_ms: Sequence[float]
) -> None:
    """Add rounds in random order until every subject is precise or the time is spent.

    Args:
        runs_ms: the fastest run of each session so far.
    """
    order = random.Random(task.seed)
    active = list(subjects)
    began = bench.watch.seconds()
    bench.read()
    reading_ms = (bench.watch.seconds() - began) * 1000
    deadline = began + len(subjects) * budget_seconds(task.protocol, runs_ms, reading_ms)
    while active:
        order.shuffle(active)
        visited: list[_Subject] = []
        for subject in active:
            bench.visit(subject.network)
            visited.append(subject)
            # rounds of one subject never share their readings: they are to be independent
            if bench.is_due or subject is active[-1]:
                _end_rounds(task, bench, visited, deadline)
                visited = []
        active = [subject for subject in active if subject.stopped is None]


def _end_rounds(
    task: MeasuringTask, bench: Bench, visited: Sequence[_Subject], deadline: float
) -> None:
    """Add the rounds of the visits since the last reading to their subjects."""
    for subject, one in zip(visited, bench.rounds(), strict=True):
        subject.rounds.append(one)
        subject.stopped = _stopped(task, subject.rounds, bench.watch.seconds() > deadline)


def budget_seconds(protocol: Protocol, runs_ms: Sequence[float], reading_ms: float) -> float:
    """Time for each network of a batch, by its first runs: the protocol's, and in proportion more
    where a round takes longer than `USUAL_ROUND_MS`, so that a slow device gets as many rounds.

    Args:
        runs_ms: latency of each network, as far as it is known.
        reading_ms: time that one reading of the canaries and of the reference takes.
    """
    visits_ms = [max(protocol.round_ms, LEAST_RUNS * run_ms) for run_ms in runs_ms]
    round_ms = fmean(visits_ms) + reading_ms
    return protocol.budget_seconds * max(1.0, round_ms / USUAL_ROUND_MS)


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
        model = _read_model(data, is_own=task.is_own)
        _check_precision(model, task.runtime)
        return [model]
    space = _read_space(data)
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
            _reference_model(task, data),
            task.runtime,
            folder=_quantised(task.reference, folder),
        )
    except Exception as error:  # noqa: BLE001 - whatever a stranger's graph does
        print(f"no reference network: {error}", file=sys.stderr)
        return None


def _reference_model(task: MeasuringTask, data: bytes) -> ModelProto:
    if task.reference == "model":
        return _read_model(data, is_own=task.is_own)
    space = _read_space(data)
    return draw_weights(materialise(space, space.full_widths), 0)


def _read_model(data: bytes, *, is_own: bool) -> ModelProto:
    """A model file. A stranger's is counted, and may have ONNX's own operators only.

    Raises:
        GraphError: it is none, or has what a stranger's may not have.
    """
    if is_own:
        return onnx.load_model_from_string(data)
    model = graphs.parse(data)
    graphs.check_operators(model)
    return model


def _read_space(data: bytes) -> SearchSpace:
    """A search space, its sizes computed: ONNX Runtime, too, infers whatever shapes it is given.

    Raises:
        SpaceError: it is none, or too large.
    """
    space = SearchSpace.from_bytes(data)
    measure_sizes(space.model)
    return space


def _check_precision(model: ModelProto, runtime: RuntimeConfig) -> None:
    """A latency of a file in another precision would say nothing of the target."""
    precision = precision_of(model)
    if precision != runtime.precision:
        raise MeasuringFailed(
            "model_invalid",
            f"the file is {precision} and the target runs {runtime.precision} files. Ask for a "
            f"target of precision {precision}, or give an {runtime.precision} file.",
        )


def _quantised(source: str, folder: Path) -> Path | None:
    """Where to quantise; a delivered file is measured in the precision that it has."""
    return folder if source == "space" else None


def main(folder: Path, parent: int) -> int:
    began_ns = time.perf_counter_ns()
    task = MeasuringTask.model_validate_json((folder / TASK_FILE).read_bytes())
    cores = pinning.apply(task, parent)
    try:
        threads.share(task.runtime, cores)
        answer = measure(task, folder, cores, began_ns=began_ns)
    except Exception as error:  # noqa: BLE001 - whatever a stranger's graph does is a typed failure
        failed = error if isinstance(error, MeasuringFailed) else classify(error)
        (folder / FAILURE_FILE).write_text(
            Failure(kind=failed.kind, message=plain(failed.message, MAX_MESSAGE)).model_dump_json()
        )
        return FAILED
    (folder / RESULT_FILE).write_text(answer.model_dump_json())
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
