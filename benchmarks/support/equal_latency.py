"""What several methods selected, brought to one latency: measured side by side, not one after the
other.

Two measurements of one network in two processes differ, and on a machine with busy neighbours by
more than the two per cent within which networks are the same here. So all that is compared runs in
one process, in turns, beside the full
network: budgets are shares of what that one took in the same process.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from latency_service.agent.measuring.profiler import Profiler
from latency_service.devices.schemas import DeviceView, RuntimeConfig
from latency_service.measurements.statistics import summarise
from latency_service.spaces.slicing import SearchSpace
from pruning_client.latency.predictor import Predictor, Widths
from pruning_client.methods.base import Selection
from pruning_client.pipeline.goals import Goal
from pruning_client.pipeline.measure import PROTOCOL, FileMeasurement
from pruning_client.pipeline.verify import Verify
from pruning_client.pipeline.width_search import Correction

#: Measurements of every contender at most; after each, widths that miss are corrected.
ROUNDS = 6
#: No correction of what is this close to its budget, relative.
_CLOSE = 0.004
#: What one measurement may be off, relative: of two that are as close, the one measured more often
#: is taken.
_NOISE = 0.006
#: Aims at the budget itself: who misses it by how much is not the question here.
_CONFIG = Verify(margin=0.0, slack=0.008)

#: Latency in ms [1 + B] of the full network and of widths [B][G], measured side by side.
Measure = Callable[[Sequence[Widths]], list[float]]


def side_by_side(space: SearchSpace, folder: Path, passes: int) -> Measure:
    """Times the full network and others in turns, all in one process; the median of several passes
    counts.

    Args:
        folder: keeps what the profiler knows of this machine.
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
    """Where contenders are to meet: a share of the full network's latency."""

    predictor: Predictor
    device: DeviceView
    share: float

    @property
    def budget_ms(self) -> float:
        return self.share * self._full_ms

    def reach(self, selections: Sequence[Selection], measure: Measure) -> list[Widths]:
        """Of each selection the widths that came closest, corrected as the closed loop of a pruning
        job does it.

        All are measured in every round, until those of each are close by the mean of two
        measurements or more.

        Raises:
            BudgetError: some selection cannot be made fast enough.
        """
        contenders = [
            _Contender(tuple(selection.widths), self._correction(selection))
            for selection in selections
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

    def _correction(self, selection: Selection) -> Correction:
        goal = Goal(
            device=self.device,
            predictor=self.predictor,
            budget_ms=self.budget_ms,
            dense=self._measured(self._full_ms),
        )
        return Correction(goals=[goal], scores=selection.scores, config=_CONFIG)

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
    """Widths on their way to the budget, and all that was measured of them."""

    def __init__(self, widths: Widths, correction: Correction) -> None:
        self.widths = widths
        self._correction = correction
        self._seen: dict[Widths, list[float]] = {}

    def note(self, measured: FileMeasurement) -> None:
        """The present widths took so long."""
        self._seen.setdefault(self.widths, []).append(measured.latency_ms)
        self._correction.note("structure", self.widths, (measured,))

    def correct(self) -> None:
        """On to other widths where the present ones miss."""
        if self._miss(self.widths) > _CLOSE:
            self.widths = self._correction.next(self.widths, self._mean_ms(self.widths))

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
        """Relative, either way."""
        return abs(self._mean_ms(widths) / self._correction.budget_ms - 1)

    def _mean_ms(self, widths: Widths) -> float:
        return statistics.mean(self._seen[widths])
