"""The closed loop: from a method's selection to a fine-tuned file whose latency was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from pruning_client.errors import SlowerThanDense
from pruning_client.methods.base import Selection
from pruning_client.pipeline.decision import (
    LoopState,
    MakeFile,
    MeasureAgain,
    MeasureStructure,
    Stop,
    decide,
)
from pruning_client.pipeline.goals import Goal
from pruning_client.pipeline.job import PruningJob
from pruning_client.pipeline.measure import FileMeasurements, verification
from pruning_client.pipeline.width_search import WidthSearch
from pruning_client.pipeline.workshop import DeliveredFile, Workshop
from pruning_client.reports.schema import Verification


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """The best file, and the way to it."""

    best: DeliveredFile
    #: All measurements of the best file as one on every target.
    measurements: FileMeasurements
    verifications: list[Verification]
    history: list[dict[str, Any]]


def deliver(
    job: PruningJob, goals: Sequence[Goal], gated: nn.Module, selection: Selection
) -> Delivery:
    """Settle the widths by measured structures, fine-tune, and correct by measured files.

    `decide` chooses each action; in the end the job's folder holds the best file.

    Raises:
        BudgetError: no structure keeps the budget as measured.
        SlowerThanDense: the best file is slower than the dense network; it is removed.
    """
    workshop = Workshop(job, gated, selection)
    state = LoopState(
        search=WidthSearch.create(goals, selection.scores, job.settings.verify),
        selected=tuple(selection.widths),
        measurements_left=job.measurements_left,
    )
    while not isinstance(action := decide(state), Stop):
        match action:
            case MeasureStructure(widths):
                measurements = workshop.measure_structure(widths)
            case MakeFile(widths):
                workshop.make_file(widths)
                measurements = workshop.measure_file(widths)
            case MeasureAgain(widths):
                measurements = workshop.measure_file(widths)
        state = state.after(action, measurements, job.measurements_left)
    return _delivery(job, goals, workshop, state)


def _delivery(
    job: PruningJob, goals: Sequence[Goal], workshop: Workshop, state: LoopState
) -> Delivery:
    best = next(file for file in workshop.files if file.widths == state.best_file)
    measurements = state.measurements_of(best.widths)
    best.exported.path.write_bytes(best.data)
    _refuse_slower(best, goals, measurements)
    return Delivery(
        best=best,
        measurements=measurements,
        verifications=_dense(job, goals) + _verifications(goals, state),
        history=workshop.selection.history + workshop.history,
    )


def _refuse_slower(
    best: DeliveredFile, goals: Sequence[Goal], measurements: FileMeasurements
) -> None:
    for goal, measured in zip(goals, measurements, strict=True):
        if measured.latency_ms >= goal.dense.latency_ms:
            best.exported.path.unlink()
            raise SlowerThanDense(
                f"The pruned network takes {measured.latency_ms:.4g} ms on {goal.device.name!r} "
                f"and the dense one {goal.dense.latency_ms:.4g} ms: it is not delivered. "
                f"The prediction was {goal.predictor.one_ms(best.widths):.4g} ms, so the "
                "predictor does not hold there.",
                "Measure more architectures and train again, or deploy the dense network.",
            )


def _dense(job: PruningJob, goals: Sequence[Goal]) -> list[Verification]:
    return [
        verification(
            "dense", job.full, goal.predictor.one_ms(job.full), goal.dense, goal.device.name
        )
        for goal in goals
    ]


def _verifications(goals: Sequence[Goal], state: LoopState) -> list[Verification]:
    """Every measurement of the loop as the report shows it."""
    return [
        verification(
            trial.stage,
            trial.action.widths,
            calibration.observations[number].predicted_ms,
            measured,
            goal.device.name,
        )
        for number, trial in enumerate(state.trials)
        for goal, calibration, measured in zip(
            goals, state.search.calibrations, trial.measurements, strict=True
        )
    ]
