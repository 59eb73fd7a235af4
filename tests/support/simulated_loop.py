"""The closed loop run on simulated targets: what it decided, as plain values."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from latency_service.core.arrays import Floats32
from pruning_client.errors import BudgetError
from pruning_client.latency.budget import Budget
from pruning_client.latency.predictor import LatencyEstimate, Predictor
from pruning_client.latency.readings import FileKey, FileMeasurements
from pruning_client.pipeline.decision import LoopState, Stop, decide
from pruning_client.pipeline.verify import Verify
from tests.support import analytic, goals
from tests.support.simulated_targets import SimulatedJob, SimulatedTarget, simulated_job

#: Number of jobs whose decisions are recorded.
RECORDED = 60


class SimulatedSource:
    """Predictions of a simulated target."""

    def __init__(self, target: SimulatedTarget) -> None:
        self._target = target

    def evaluate(self, widths: Floats32) -> LatencyEstimate:
        latency_ms = self._target.predicted_ms(np.asarray(widths, np.float64)).astype(np.float32)
        half_width = np.float32(self._target.half_width)
        return LatencyEstimate(
            latency_ms=latency_ms,
            gradient=np.zeros_like(widths),
            lower_ms=latency_ms * (1 - half_width),
            upper_ms=latency_ms * (1 + half_width),
        )


@dataclass(frozen=True, kw_only=True)
class Run:
    """One simulated job, whole."""

    job: SimulatedJob
    state: LoopState

    @property
    def is_refused(self) -> bool:
        """Whether no structure kept the budget, so that no file was made."""
        return not self.state.files

    def is_kept_by(self, key: FileKey) -> bool:
        """Whether the true latency of a file keeps every budget."""
        machine = self.job.machine
        return all(
            machine.true_ms(index, key.widths, is_trained=True) <= self.true_budget_ms(index)
            for index in range(len(self.job.targets))
        )

    def true_budget_ms(self, index: int) -> float:
        """The budget in ms, by the dense network's true latency."""
        target = self.job.targets[index]
        dense_ms = self.job.machine.true_ms(index, target.full, is_trained=False)
        return self.state.goals[index].evidence.budget.in_ms(dense_ms)


def run(seed: int) -> Run:
    """Run the closed loop to its end on a job drawn from the seed."""
    job = simulated_job(seed)
    state = _initial(job)
    with suppress(BudgetError):
        while not isinstance(action := decide(state), Stop):
            readings = _readings(job, action.key)
            state = state.after(action, readings)
    return Run(job=job, state=state)


def trace(seed: int) -> dict[str, Any]:
    """Every action as `[action, widths, latency in ms of each target]`, and the file delivered."""
    finished = run(seed)
    state = finished.state
    rows = list(zip(*(one.readings for one in state.evidence), strict=True))
    actions = [
        [
            type(action).__name__,
            action.key.stage,
            _plain(action.key.widths),
            [round(reading.latency_ms, 6) for _, reading in row],
        ]
        for action, row in zip(state.actions, rows[-len(state.actions) :], strict=True)
    ]
    outcome = (
        {"error": "BudgetError"}
        if finished.is_refused
        else {
            "delivered": _plain(state.best_file.widths),
            "outcome": state.outcome(state.best_file),
        }
    )
    return {"seed": seed, "actions": actions, **outcome}


def _initial(job: SimulatedJob) -> LoopState:
    full = tuple(job.targets[0].full)
    dense = _readings(job, FileKey("dense", full))
    targets = [
        goals.goal(
            _predictor(target),
            _budget(job, target),
            f"device-{number}",
            dense=reading,
        )
        for number, (target, reading) in enumerate(zip(job.targets, dense, strict=True))
    ]
    return LoopState(
        goals=targets,
        scores=job.scores,
        config=Verify(
            rounds=job.rounds, late_rounds=job.late_rounds, seconds=job.seconds, slack=job.slack
        ),
        selected=tuple(job.initial),
    )


def _budget(job: SimulatedJob, target: SimulatedTarget) -> Budget:
    if job.is_share:
        return Budget(share=min(0.99, target.budget_share))
    dense_ms = float(target.predicted_ms(np.array([target.full], np.float64))[0])
    return Budget(absolute_ms=target.budget_share * dense_ms)


def _readings(job: SimulatedJob, key: FileKey) -> FileMeasurements:
    found = job.machine.measure(key.widths, is_trained=key.stage == "delivered")
    return tuple(
        replace(
            goals.measured(reading.latency_ms),
            lower_ms=reading.lower_ms,
            upper_ms=reading.upper_ms,
            seconds=reading.seconds,
        )
        for reading in found
    )


def _predictor(target: SimulatedTarget) -> Predictor:
    sidecar = analytic.sidecar_of(target.full, target.lattice)
    return Predictor(analytic.view(sidecar), SimulatedSource(target))


def _plain(widths: tuple[int, ...]) -> list[int]:
    return [int(width) for width in widths]


if __name__ == "__main__":
    lines = ",\n".join(json.dumps(trace(seed)) for seed in range(RECORDED))
    print(f"[\n{lines}\n]")
