"""The targets of a job, each with its budget; several are pruned for at once, for the worst of
them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latency_service.core.arrays import Floats32
from latency_service.devices.schemas import DeviceView
from pruning_client.errors import UsageError
from pruning_client.latency.predictor import Answer, Predictor, Source
from pruning_client.pipeline.measure import Measured


@dataclass(frozen=True, kw_only=True)
class Goal:
    """One target: what its device took for the dense network, and what it may take for the pruned
    one.
    """

    device: DeviceView
    predictor: Predictor
    budget_ms: float
    dense: Measured


class WorstSource:
    """Of several predictors the latency that is highest in proportion to its budget, in ms of the
    first budget.

    The gradient [B, G] is the one of the predictor that is highest: a subgradient of the maximum.
    """

    def __init__(self, sources: Sequence[Source], scales: Sequence[float]) -> None:
        self._sources = list(sources)
        self._scales = [np.float32(scale) for scale in scales]

    def evaluate(self, widths: Floats32) -> Answer:
        answers = [source.evaluate(widths) for source in self._sources]

        def stacked(name: str) -> Floats32:
            parts = [
                scale * getattr(answer, name)
                for answer, scale in zip(answers, self._scales, strict=True)
            ]
            return np.stack(parts)

        latency = stacked("latency_ms")
        worst = np.argmax(latency, axis=0)
        row = np.arange(len(widths))
        return Answer(
            latency_ms=latency[worst, row],
            gradient=stacked("gradient")[worst, row],
            lower_ms=stacked("lower_ms").max(axis=0),
            upper_ms=stacked("upper_ms").max(axis=0),
        )


def common_lattice(predictors: Sequence[Predictor]) -> list[list[int]]:
    """For each group the widths [G][...] that are worth using on every target.

    Raises:
        UsageError: some group has no width on all of the lattices.
    """
    shared = [
        sorted(set(choices[0]).intersection(*choices[1:]))
        for choices in zip(*(p.lattice for p in predictors), strict=True)
    ]
    for choices, name in zip(shared, predictors[0].sidecar.groups, strict=True):
        if not choices:
            raise UsageError(
                f"The width group {name!r} has no width that is worth using on all of these "
                "devices.",
                "Prune for each device on its own.",
            )
    return shared


def worst_of(goals: Sequence[Goal]) -> Predictor:
    """One predictor of all goals, in ms of the first one's budget; of one goal its own
    predictor.
    """
    first = goals[0]
    if len(goals) == 1:
        return first.predictor
    scales = [first.budget_ms / goal.budget_ms for goal in goals]
    source = WorstSource([goal.predictor.source for goal in goals], scales)
    lattice = common_lattice([goal.predictor for goal in goals])
    ends = source.evaluate(
        np.array([[c[-1] for c in lattice], [c[0] for c in lattice]], np.float32)
    ).latency_ms
    sidecar = first.predictor.sidecar.model_copy(
        update={"lattice": lattice, "dense_ms": float(ends[0]), "lowest_ms": float(ends[1])}
    )
    return Predictor(first.predictor.view.model_copy(update={"sidecar": sidecar}), source)
