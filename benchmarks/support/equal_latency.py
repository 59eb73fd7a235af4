"""Selections of several methods, corrected to one latency by measuring them side by side.

Two measurements of one network in two processes differ; beside busy neighbours they differ by more
than the two per cent within which networks count as the same here. So all networks run in one
process, alternating with the full network, and budgets are shares of its latency in that process.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from latency_service.agent.measuring.profiler import Profiler
from latency_service.devices.schemas import RuntimeConfig
from latency_service.measurements.statistics import summarise
from latency_service.spaces.slicing import SearchSpace
from pruning_client.latency.predictor import Predictor, Widths
from pruning_client.latency.readings import FileMeasurement
from pruning_client.methods.base import Selection
from pruning_client.pipeline.measure import PROTOCOL
from pruning_client.pipeline.width_search import WidthSearch

#: Maximum number of measurements of every contender; after each, widths that miss are corrected.
ROUNDS = 6
#: Relative distance to the budget within which widths are not corrected.
_CLOSE = 0.004
#: Relative error of one measurement: of two equally close widths, those measured more often are
#: taken.
_NOISE = 0.006
#: The search aims at the budget itself, because misses are not compared here.
_MARGIN = 0.0
_SLACK = 0.008

#: Latency in ms [1 + B] of the full network and of widths [B][G], measured side by side.
Measure = Callable[[Sequence[Widths]], list[float]]


def side_by_side(space: SearchSpace, folder: Path, passes: int) -> Measure:
    """A function that alternates the full network with others, and takes the median of `passes`.

    Args:
        folder: directory of the profiler's calibration of this machine.
    """
    profiler = Profiler(folder)

    def measure(widths: Sequence[Widths]) -> list[float]:
        turn = [space.full_widths, *map(list, widths)]
        found = profiler.batch(space.data, turn * passes, RuntimeConfig(), PROTOCOL)
        each = [
            summarise(one.rounds, found.calibration, PROTOCOL).latency_ms
            for one in found.answer.results
        ]
        return [statistics.median(each[place :: len(turn)]) for place in range(len(turn))]

    return measure


@dataclass(frozen=True, kw_only=True)
class Level:
    """Common latency of all contenders: a share of the full network's."""

    predictor: Predictor
    share: float

    @property
    def budget_ms(self) -> float:
        return self.share * self._full_ms

    def reach(self, selections: Sequence[Selection], measure: Measure) -> list[Widths]:
        """The widths of each selection that come closest, corrected as in a pruning job.

        All are measured in every round, until each is close by the mean of at least two
        measurements.

        Raises:
            BudgetError: a selection cannot be made fast enough.
        """
        contenders = [
            _Contender(tuple(selection.widths), self._search(selection)) for selection in selections
        ]
        for _ in range(ROUNDS):
            full_ms, *found_ms = measure([contender.widths for contender in contenders])
            for contender, latency_ms in zip(contenders, found_ms, strict=True):
                contender.note(self._measured(latency_ms / full_ms * self._full_ms))
            if all(contender.is_settled for contender in contenders):
                break
            for contender in contenders:
                contender.correct()
        return [contender.best for contender in contenders]

    @property
    def _full_ms(self) -> float:
        return self.predictor.sidecar.dense_ms

    def _search(self, selection: Selection) -> WidthSearch:
        return WidthSearch.create(
            [self.predictor],
            [self.budget_ms],
            selection.scores,
            margin=_MARGIN,
            slack=_SLACK,
        )

    def _measured(self, latency_ms: float) -> FileMeasurement:
        return FileMeasurement(
            latency_ms=latency_ms,
            lower_ms=latency_ms,
            upper_ms=latency_ms,
            verdict="ok",
            measurement_id="",
            target_id=self.predictor.view.target_id,
            model_sha256="",
        )


class _Contender:
    """One selection: its present widths and the measurements of all its widths."""

    def __init__(self, widths: Widths, search: WidthSearch) -> None:
        self.widths = widths
        self._search = search
        self._seen: dict[Widths, list[float]] = {}

    def note(self, measured: FileMeasurement) -> None:
        """Add a measurement of the present widths."""
        self._seen.setdefault(self.widths, []).append(measured.latency_ms)
        self._search = self._search.measured(self.widths, (measured,))

    def correct(self) -> None:
        """Move to other widths where the present ones miss."""
        if self._miss(self.widths) > _CLOSE:
            self.widths = self._search.next(self.widths, self._mean_ms(self.widths))

    @property
    def is_settled(self) -> bool:
        return len(self._seen[self.widths]) > 1 and self._miss(self.widths) <= _CLOSE

    @property
    def best(self) -> Widths:
        return min(
            self._seen,
            key=lambda widths: self._miss(widths) + _NOISE / len(self._seen[widths]) ** 0.5,
        )

    def _miss(self, widths: Widths) -> float:
        """Relative distance to the budget, above or below it."""
        return abs(self._mean_ms(widths) / self._search.budget_ms - 1)

    def _mean_ms(self, widths: Widths) -> float:
        return statistics.mean(self._seen[widths])
