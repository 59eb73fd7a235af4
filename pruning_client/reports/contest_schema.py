"""Content of contest.json. Latencies are in ms, accuracies in per cent."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field, computed_field

from latency_service.devices.schemas import RuntimeConfig
from pruning_client.reports.schema import Front, Outcome
from pruning_client.reports.templating import notebook_html


class ContestResult(BaseModel):
    """What a method delivered at one budget with one seed."""

    latency_ms: float
    lower_ms: float
    upper_ms: float
    dense_ms: float
    outcome: Outcome
    over_percent: float = Field(description="relative excess of the latency over the budget")
    accuracy: float
    dense_accuracy: float
    is_equal: bool = Field(
        description="the latency is within the allowed difference of the other methods'"
    )
    widths: list[int]
    parameters: int
    macs: int
    file_bytes: int
    selecting_seconds: float = Field(description="wall time of choosing the channels")
    training_seconds: float = Field(description="wall time of fine-tuning, export and evaluation")
    folder: str = Field(description="folder of report.json and the files, beside contest.json")
    run_id: str | None

    @property
    def seconds(self) -> float:
        """Wall time of the method without measurements."""
        return self.selecting_seconds + self.training_seconds


class ContestEntry(BaseModel):
    """One method at one budget with one seed."""

    method: str
    budget: str
    seed: int
    own_epochs: int = Field(description="epochs that the method trains to choose the channels")
    finetune_epochs: int
    result: ContestResult | None = None
    failure: str | None = Field(None, description="why there is no result")


class Standing(BaseModel):
    """One method at one budget, over all seeds."""

    method: str
    budget: str
    own_epochs: int
    finetune_epochs: int
    finished: int = Field(description="number of seeds with a result")
    met: int = Field(description="number of seeds whose file keeps the budget as measured")
    accuracy: float | None = Field(description="mean over the seeds")
    accuracy_deviation: float | None = Field(description="standard deviation over the seeds")
    latency_ms: float | None = Field(description="mean over the seeds")
    lower_ms: float | None = Field(description="lowest end of the seeds' 95 % intervals")
    upper_ms: float | None = Field(description="highest end of the seeds' 95 % intervals")
    seconds: float | None = Field(description="wall time without measurements, mean over the seeds")
    selecting_seconds: float | None
    is_equal: bool
    is_best: bool = Field(
        False,
        description="highest mean accuracy at this budget, of the methods all of whose files keep "
        "the budget and have the same latency",
    )
    failures: list[str]


class Contest(BaseModel):
    """Methods compared at equal measured latency and equal training effort."""

    format: int = 1
    name: str = Field(description="class of the network")
    created_at: datetime
    device: str
    runtime: RuntimeConfig
    methods: list[str]
    budgets: list[str]
    seeds: list[int]
    epochs: int = Field(description="epochs of every method, its own and fine-tuning together")
    allowed_percent: float = Field(description="largest difference of latencies that are equal")
    front: Front
    entries: list[ContestEntry]
    config: dict[str, Any] = Field(description="shared settings, and the options of each method")
    versions: dict[str, str]
    command: str

    @computed_field  # type: ignore[prop-decorator]
    @property
    def standings(self) -> list[Standing]:
        """Every budget in the order given, the methods of each by their accuracy."""
        return [row for budget in self.budgets for row in self._standings_of(budget)]

    @property
    def outcome(self) -> Outcome:
        """Whether every budget is met by some method: the outcome of the worst budget."""
        outcomes = [self._best_outcome(budget) for budget in self.budgets]
        return max(outcomes, key=_FROM_BEST.index)

    def best(self, budget: str) -> str | None:
        """The method with the highest accuracy at a budget; None where none keeps it."""
        return next((row.method for row in self._standings_of(budget) if row.is_best), None)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        return notebook_html("contest", self)

    def _best_outcome(self, budget: str) -> Outcome:
        found = [
            entry.result.outcome
            for entry in self.entries
            if entry.budget == budget and entry.result is not None
        ]
        return min(found, key=_FROM_BEST.index, default="not met")

    def _standings_of(self, budget: str) -> list[Standing]:
        rows = [
            _standing([e for e in self.entries if (e.budget, e.method) == (budget, method)])
            for method in self.methods
        ]
        rows.sort(key=lambda row: -1.0 if row.accuracy is None else row.accuracy, reverse=True)
        for row in rows:
            if row.is_equal and row.met == len(self.seeds):
                row.is_best = True
                break
        return rows


_FROM_BEST: tuple[Outcome, ...] = ("met", "not decided", "not met")


def _standing(entries: Sequence[ContestEntry]) -> Standing:
    results = [entry.result for entry in entries if entry.result is not None]
    accuracies = [result.accuracy for result in results]
    first = entries[0]
    return Standing(
        method=first.method,
        budget=first.budget,
        own_epochs=first.own_epochs,
        finetune_epochs=first.finetune_epochs,
        finished=len(results),
        met=sum(result.outcome == "met" for result in results),
        accuracy=_mean(accuracies),
        accuracy_deviation=statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        latency_ms=_mean([result.latency_ms for result in results]),
        lower_ms=min((result.lower_ms for result in results), default=None),
        upper_ms=max((result.upper_ms for result in results), default=None),
        seconds=_mean([result.seconds for result in results]),
        selecting_seconds=_mean([result.selecting_seconds for result in results]),
        is_equal=bool(results) and all(result.is_equal for result in results),
        failures=[
            f"seed {entry.seed}: {entry.failure}" for entry in entries if entry.failure is not None
        ],
    )


def _mean(values: Sequence[float]) -> float | None:
    return statistics.mean(values) if values else None
