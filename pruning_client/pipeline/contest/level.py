"""Selections of several methods, corrected to one latency by measuring them side by side.

Two measurements of one network in two processes differ; beside busy neighbours they differ by more
than the two per cent within which networks count as equally fast here. So all networks run in one
process, alternating with the full network, and the latency to reach is a share of the full
network's in that process.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pruning_client.errors import BudgetError
from pruning_client.latency.predictor import Predictor, Widths
from pruning_client.latency.readings import FileMeasurement
from pruning_client.methods.base import Selection
from pruning_client.pipeline.width_search import WidthSearch

#: Maximum number of measurements of every contender; after each, widths that miss are corrected.
ROUNDS = 6
#: Relative distance to the level within which widths are not corrected.
CLOSE = 0.004
#: Maximum difference of latencies that count as equal, per cent.
EQUAL_PERCENT = 2.0
#: Relative error of one measurement: of two equally close widths, those measured more often are
#: taken.
_NOISE = 0.006
#: The search aims at the level itself, because misses are not compared here.
_MARGIN = 0.0
_SLACK = 0.008

#: Latency in ms [1 + B] of the full network and of widths [B][G], measured side by side.
Measure = Callable[[Sequence[Widths]], list[float]]


@dataclass(frozen=True, kw_only=True)
class Level:
    """Common latency of all contenders: a share of the full network's."""

    predictor: Predictor
    share: float

    @property
    def budget_ms(self) -> float:
        """Latency to reach, in ms of the predictor."""
        return self.share * self._full_ms

    def reach(
        self, selections: Sequence[Selection], measure: Measure
    ) -> list[Widths | BudgetError]:
        """The widths of each selection that come closest, corrected as in a pruning job, or the
        reason why it cannot be made fast enough.

        All are measured in every round, until each is close by the mean of at least two
        measurements.
        """
        contenders = [
            _Contender(tuple(selection.widths), self._search(selection)) for selection in selections
        ]
        for _ in range(ROUNDS):
            present = [contender for contender in contenders if contender.failure is None]
            if not present:
                break
            full_ms, *found_ms = measure([contender.widths for contender in present])
            for contender, latency_ms in zip(present, found_ms, strict=True):
                contender.note(self._measured(latency_ms / full_ms * self._full_ms))
            if all(contender.is_settled for contender in present):
                break
            for contender in present:
                contender.correct()
        return [contender.failure or contender.best for contender in contenders]

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
        #: Why no widths of this selection are fast enough.
        self.failure: BudgetError | None = None
        self._search = search
        self._seen: dict[Widths, list[float]] = {}

    def note(self, measured: FileMeasurement) -> None:
        """Add a measurement of the present widths."""
        self._seen.setdefault(self.widths, []).append(measured.latency_ms)
        self._search = self._search.measured(self.widths, (measured,))

    def correct(self) -> None:
        """Move to other widths where the present ones miss."""
        if self._miss(self.widths) <= CLOSE:
            return
        try:
            self.widths = self._search.next(self.widths, self._mean_ms(self.widths))
        except BudgetError as error:
            self.failure = error

    @property
    def is_settled(self) -> bool:
        return len(self._seen[self.widths]) > 1 and self._miss(self.widths) <= CLOSE

    @property
    def best(self) -> Widths:
        return min(
            self._seen,
            key=lambda widths: self._miss(widths) + _NOISE / len(self._seen[widths]) ** 0.5,
        )

    def _miss(self, widths: Widths) -> float:
        """Relative distance to the level, above or below it."""
        return abs(self._mean_ms(widths) / self._search.budget_ms - 1)

    def _mean_ms(self, widths: Widths) -> float:
        return statistics.mean(self._seen[widths])


def unequal(share: float, dense_ms: float, latency_ms: Sequence[float]) -> list[int]:
    """Positions of the latencies that are not equal to the others (a disturbed machine).

    Unequal is what is further from the median than half of the allowed difference, or further from
    its share of the dense network's latency than all of it.
    """
    logs = np.log(latency_ms)
    apart = np.abs(logs - np.median(logs)) > math.log1p(EQUAL_PERCENT / 100) / 2
    off = np.abs(np.asarray(latency_ms) / (share * dense_ms) - 1) > EQUAL_PERCENT / 100
    return np.flatnonzero(apart | off).tolist()
