"""Measuring, as the agent and the command line ask for it: calibrated, in the sandbox, with a
fingerprint.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from latency_service.agent.fingerprint import fingerprint
from latency_service.agent.measuring import sandbox
from latency_service.agent.measuring.calibration import CalibrationStore
from latency_service.agent.measuring.files import Shapes, read_whole
from latency_service.agent.measuring.ipc import ChildResult, MeasuringFailed, MeasuringTask
from latency_service.agent.measuring.sandbox import Limits
from latency_service.core import locks
from latency_service.core.quantisation import precision_of
from latency_service.core.runtimes import Precision
from latency_service.core.terminal.progress import Step, unseen
from latency_service.devices.schemas import Fingerprint, RuntimeConfig
from latency_service.measurements.schemas import (
    ArchitectureResult,
    Calibration,
    Protocol,
    Round,
    Summary,
)
from latency_service.measurements.shares import Share, share_of_reference
from latency_service.measurements.statistics import summarise

#: Processes that a new target is calibrated with: each sees another memory layout and another
#: moment.
CALIBRATING_PROCESSES = 3
#: A single file is not spread over time by the others of a batch, and it decides: rounds at least,
#: and the budget that it may spend waiting for quiet ones at least.
FILE_ROUNDS = 60
FILE_BUDGET_SECONDS = 12.0


class LeaseResult(NamedTuple):
    """What one measuring process found, and what it is to be judged by."""

    fingerprint: Fingerprint
    calibration: Calibration
    answer: ChildResult


class Reference(NamedTuple):
    """A search space, of which the full-width architecture is the reference, or an ONNX file."""

    source: Literal["space", "model"]
    data: bytes


class LocalMeasurement(NamedTuple):
    summary: Summary
    rounds: list[Round]
    calibration: Calibration
    fingerprint: Fingerprint
    #: share of the reference's latency; None without a reference, or where it cannot run
    share: Share | None


class Profiler:
    """Measures on this machine. `state_dir` keeps the calibrations; one at a time may use it;
    `on_step` is told what is done.
    """

    def __init__(
        self,
        state_dir: Path,
        run: Callable[..., ChildResult] = sandbox.run,
        *,
        on_step: Callable[[Step], object] = unseen,
    ) -> None:
        self._store = CalibrationStore(state_dir / "calibration")
        self._run = run
        self._on_step = on_step

    def batch(
        self,
        space: bytes,
        widths: Sequence[Sequence[int]],
        runtime: RuntimeConfig,
        protocol: Protocol,
        *,
        seed: int = 0,
        cancelled: Callable[[], str | None] = lambda: None,
    ) -> LeaseResult:
        """Measure architectures of a search space, interleaved; results in the order of `widths`.

        Raises:
            MeasuringFailed: typed; nothing of the batch is kept.
            Cancelled: `cancelled` gave a reason.
        """
        task = MeasuringTask(
            source="space",
            runtime=runtime,
            protocol=protocol,
            widths=[list(map(int, w)) for w in widths],
            seed=seed,
            reference="space",
        )
        return self._measure(task, space, None, cancelled, None)

    def file(
        self,
        model: bytes,
        runtime: RuntimeConfig,
        protocol: Protocol,
        *,
        seed: int = 0,
        reference: Reference | None = None,
        cancelled: Callable[[], str | None] = lambda: None,
        limits: Limits | None = None,
        is_own: bool = False,
    ) -> LeaseResult:
        """Measure one ONNX file just as it is, its own weights included. Raises as `batch` does.

        Args:
            reference: network that is read before and after every round, for the correction and for
                comparison.
            is_own: the files are those of this machine's user, who may run what they like.
        """
        longer = protocol.model_copy(
            update={
                "min_rounds": max(protocol.min_rounds, FILE_ROUNDS),
                "max_rounds": max(protocol.max_rounds, 4 * FILE_ROUNDS),
                "budget_seconds": max(protocol.budget_seconds, FILE_BUDGET_SECONDS),
            }
        )
        task = MeasuringTask(
            source="model",
            runtime=runtime,
            protocol=longer,
            seed=seed,
            reference=reference.source if reference else None,
            is_own=is_own,
        )
        return self._measure(task, model, reference, cancelled, limits)

    def _measure(
        self,
        task: MeasuringTask,
        graph: bytes,
        reference: Reference | None,
        cancelled: Callable[[], str | None],
        limits: Limits | None,
    ) -> LeaseResult:
        target = fingerprint(task.runtime)
        name = _reference_name(task, graph, reference)
        self._on_step(Step(phase="waiting for its turn"))
        with locks.turn(cancelled):
            if self._store.calibration(target.digest) is None:
                self._calibrate(task, target.digest, cancelled)
            known = self._known(target.digest, name)
            task = task.model_copy(update={"calibration": known, "canaries": known.canaries})
            self._on_step(Step(phase="measuring"))
            answer = self._run(
                task,
                graph,
                reference=reference.data if reference else None,
                cancelled=cancelled,
                limits=limits,
            )
            self._store.add(target.digest, answer.readings)
            if name is not None and answer.reference is not None:
                self._store.add_reference(target.digest, name, answer.reference)
        return LeaseResult(target, self._known(target.digest, name), answer)

    def _calibrate(
        self, task: MeasuringTask, digest: str, cancelled: Callable[[], str | None]
    ) -> None:
        """Calibrate a target; its first process chooses the canaries."""
        canaries: list[str] | None = None
        for number in range(CALIBRATING_PROCESSES):
            self._on_step(
                Step(
                    phase="calibrating",
                    done=number,
                    total=CALIBRATING_PROCESSES,
                    unit="processes",
                )
            )
            alone = MeasuringTask(
                source="calibrate",
                runtime=task.runtime,
                protocol=task.protocol,
                canaries=canaries,
            )
            readings = self._run(alone, None, cancelled=cancelled, limits=None).readings
            self._store.add(digest, readings)
            canaries = readings.canaries

    def _known(self, digest: str, reference: str | None) -> Calibration:
        known = self._store.calibration(digest, reference)
        if known is None:
            raise MeasuringFailed(
                "device_unhealthy", "the canaries could not be read often enough to calibrate"
            )
        return known


def _reference_name(task: MeasuringTask, graph: bytes, reference: Reference | None) -> str | None:
    """The name under which the reference's floor is kept: the same for a space and for a file of
    it.
    """
    if task.reference is None:
        return None
    return hashlib.sha256(reference.data if reference else graph).hexdigest()


def measure_file(
    path: Path,
    runtime: RuntimeConfig,
    protocol: Protocol | None = None,
    *,
    reference: Path | None = None,
    shapes: Shapes | None = None,
    state_dir: Path | None = None,
    limits: Limits | None = None,
    on_step: Callable[[Step], object] = unseen,
) -> LocalMeasurement:
    """Measure one ONNX file on this machine, in the sandbox, with no service at all.

    Args:
        runtime: its precision is that of the file, whatever is given.
        reference: another ONNX file that is measured in the same rounds, for comparison.
        shapes: sizes of inputs whose own are dynamic, by name, such as ``{"x": (1, 3, 224, 224)}``;
            of the reference too, where it has inputs of these names.
        state_dir: keeps the calibration; without it the canaries are calibrated anew (some ten
            seconds).
        on_step: told what is done.

    Raises:
        MeasuringFailed: the file is no valid model, or cannot run here; `kind` and message say why.
        OSError: the file cannot be read.
    """
    model = read_whole(path, shapes or {})
    compared = read_whole(reference, shapes or {}, skip_others=True) if reference else None
    runtime = runtime.model_copy(update={"precision": _precision(model)})
    protocol = protocol or Protocol()
    with tempfile.TemporaryDirectory(prefix="latency-measure-") as scratch:
        measured = Profiler(state_dir or Path(scratch), on_step=on_step).file(
            model,
            runtime,
            protocol,
            reference=Reference("model", compared) if compared is not None else None,
            limits=limits,
            is_own=True,
        )
    (result,) = measured.answer.results
    summary = summarise(result.rounds, measured.calibration, protocol)
    return LocalMeasurement(
        summary=summary,
        rounds=result.rounds,
        calibration=measured.calibration,
        fingerprint=measured.fingerprint,
        share=share_of_reference(summary, result.rounds),
    )


def _precision(model: bytes) -> Precision:
    """Precision of a file; that of one that is no model does not matter."""
    try:
        return precision_of(onnx.load_model_from_string(model))
    except DecodeError:
        return "fp32"


def results_of(answer: ChildResult, indices: Sequence[int]) -> list[ArchitectureResult]:
    """The results with the indices that the lease gave to the architectures."""
    return [
        result.model_copy(update={"index": index})
        for result, index in zip(answer.results, indices, strict=True)
    ]
