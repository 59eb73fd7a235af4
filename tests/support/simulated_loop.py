"""The closed loop run on simulated targets: what it decided, as plain values."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np

from latency_service.core.arrays import Floats32
from pruning_client.errors import BudgetError
from pruning_client.latency.predictor import LatencyEstimate, Predictor
from pruning_client.pipeline.decision import LoopState, Stop, decide
from pruning_client.pipeline.verify import Verify
from pruning_client.pipeline.width_search import WidthSearch
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


def trace(seed: int) -> dict[str, Any]:
    """Every trial as `[action, widths, latency in ms of each target]`, and the file delivered."""
    job = simulated_job(seed)
    state = _initial(job)
    outcome: dict[str, Any] = {}
    try:
        while not isinstance(action := decide(state), Stop):
            readings = job.machine.measure(action.widths)
            measurements = tuple(
                replace(
                    goals.measured(r.latency_ms, verdict=r.verdict, taken=r.taken),
                    lower_ms=r.lower_ms,
                    upper_ms=r.upper_ms,
                )
                for r in readings
            )
            state = state.after(action, measurements, job.machine.left)
        outcome["delivered"] = _plain(state.best_file)
    except BudgetError:
        outcome["error"] = "BudgetError"
    trials = [
        [
            type(trial.action).__name__,
            _plain(trial.action.widths),
            [round(m.latency_ms, 6) for m in trial.measurements],
        ]
        for trial in state.trials
    ]
    return {"seed": seed, "trials": trials, **outcome}


def _initial(job: SimulatedJob) -> LoopState:
    targets = [
        goals.goal(_predictor(target), target.budget_ms, f"device-{number}")
        for number, target in enumerate(job.targets)
    ]
    config = Verify(
        rounds=job.rounds,
        late_rounds=job.late_rounds,
        measurements=job.measurements,
        margin=job.margin,
        slack=job.slack,
    )
    return LoopState(
        search=WidthSearch.create(targets, job.scores, config),
        selected=tuple(job.initial),
        measurements_left=job.machine.left,
    )


def _predictor(target: SimulatedTarget) -> Predictor:
    sidecar = analytic.sidecar_of(target.full, target.lattice)
    return Predictor(analytic.view(sidecar), SimulatedSource(target))


def _plain(widths: tuple[int, ...]) -> list[int]:
    return [int(width) for width in widths]


if __name__ == "__main__":
    lines = ",\n".join(json.dumps(trace(seed)) for seed in range(RECORDED))
    print(f"[\n{lines}\n]")
