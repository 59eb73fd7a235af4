"""The closed loop: from a method's selection to a fine-tuned file whose latency was measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from latency_service.core.client.connection import Timeout
from pruning_client.errors import PruningError, SlowerThanDense, TrainingFailed
from pruning_client.execution import distributed
from pruning_client.latency.readings import Evidence, FileKey, FileMeasurement, FileMeasurements
from pruning_client.methods.base import Selection
from pruning_client.pipeline.decision import (
    LoopState,
    MakeFile,
    MeasureAgain,
    MeasureStructure,
    Measuring,
    Stop,
    decide,
)
from pruning_client.pipeline.goals import Goal
from pruning_client.pipeline.job import PruningJob
from pruning_client.pipeline.measure import verification
from pruning_client.pipeline.workshop import DeliveredFile, Workshop
from pruning_client.reports.schema import Outcome, Spent, Verification
from pruning_client.training.memory_format import in_format


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """The best file, and the way to it."""

    best: DeliveredFile
    #: What the evidence says of the best file, and the probability that it keeps every budget.
    outcome: Outcome
    probability: float
    #: All readings on each target.
    evidence: list[Evidence]
    verifications: list[Verification]
    spent: Spent
    #: The fp32 file beside an int8 one, on every target.
    float_measurements: FileMeasurements | None
    history: list[dict[str, Any]]
    #: What the method chose, with its facts and pictures.
    selection: Selection

    @property
    def measurements(self) -> FileMeasurements:
        """All readings of the best file as one on every target."""
        return tuple(one.of(self.key) for one in self.evidence)

    @property
    def key(self) -> FileKey:
        return FileKey("delivered", self.best.widths)


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
        goals=goals,
        scores=selection.scores,
        config=job.settings.verify,
        selected=tuple(selection.widths),
    )
    is_cut_short = False
    while not isinstance(action := decide(state), Stop):
        try:
            state = state.after(action, _readings(workshop, action, state))
        except (PruningError, Timeout) as error:
            # the other processes of a job do not know of a step that failed in this one
            is_untold = isinstance(error, TrainingFailed) and distributed.world() > 1
            if is_untold or not any(state.outcome(key) == "met" for key in state.files):
                raise
            is_cut_short = True
            job.warn(
                "A file that keeps the budget is delivered, and the work on a better one or on "
                f"further proof ended early: {error.message}"
            )
            break
        if job.recorder is not None:
            job.recorder.note_verifications(verifications_of(state.goals))
    return _delivery(workshop, state, measures_float=not is_cut_short)


def _readings(workshop: Workshop, action: Measuring, state: LoopState) -> FileMeasurements:
    """Do what was decided."""
    match action:
        case MeasureStructure(key):
            return workshop.measure_structure(key.widths)
        case MakeFile(key):
            workshop.make_file(key.widths)
            return workshop.measure_file()
        case MeasureAgain(key, pause_seconds):
            workshop.wait(pause_seconds, state.seconds_left)
            return workshop.measure_again(key)


def _delivery(workshop: Workshop, state: LoopState, *, measures_float: bool) -> Delivery:
    key = state.best_file
    best = next(file for file in workshop.files if file.widths == key.widths)
    best.exported.path.write_bytes(best.data)
    if workshop.job.in_channels_last:
        in_format(best.module, torch.contiguous_format)
    delivery = Delivery(
        best=best,
        outcome=state.outcome(key),
        probability=state.probability(key),
        evidence=state.evidence,
        verifications=verifications_of(state.goals),
        spent=Spent(
            readings=sum(len(one.readings) for one in state.evidence),
            seconds=state.seconds,
            waited_seconds=state.waited_seconds,
        ),
        history=workshop.selection.history + workshop.history,
        selection=workshop.selection,
        float_measurements=(
            workshop.measure_float(best) if measures_float and best.file.is_quantised else None
        ),
    )
    # a network that was widened may be as slow as its budget allows
    whole = workshop.job.wide or [one.dense for one in state.evidence]
    try:
        for goal, measured, before in zip(state.goals, delivery.measurements, whole, strict=True):
            check_faster(best, goal, measured, before)
    except SlowerThanDense:
        best.exported.path.unlink()
        raise
    return delivery


def check_faster(
    best: DeliveredFile, goal: Goal, measured: FileMeasurement, dense: FileMeasurement
) -> None:
    """Refuse a file that is slower than the dense network.

    Raises:
        SlowerThanDense: it is.
    """
    if measured.latency_ms < dense.latency_ms:
        return
    raise SlowerThanDense(
        f"The pruned network takes {measured.latency_ms:.4g} ms on {goal.device.name!r} "
        f"and the dense one {dense.latency_ms:.4g} ms: it is not delivered. "
        f"The prediction was {goal.predictor.one_ms(best.widths):.4g} ms, so the "
        "predictor does not hold there.",
        "Measure more architectures and train again, or deploy the dense network.",
    )


def verifications_of(goals: Sequence[Goal]) -> list[Verification]:
    """Every reading of a job as the report shows it, in the order in which they were made."""
    rows = zip(*(goal.evidence.readings for goal in goals), strict=True)
    return [
        verification(
            key.stage,
            key.widths,
            goal.predictor.one_ms(key.widths),
            reading,
            goal.device.name,
        )
        for row in rows
        for goal, (key, reading) in zip(goals, row, strict=True)
    ]
