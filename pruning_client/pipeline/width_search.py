"""Widths that use the budgets up, by predictions that measurements have corrected."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np

from latency_service.core.arrays import Floats
from pruning_client.errors import BudgetError
from pruning_client.latency.calibration import Calibration
from pruning_client.latency.multi_target import common_lattice
from pruning_client.latency.predictor import Predictor, Widths
from pruning_client.latency.readings import FileMeasurements
from pruning_client.methods import allocation

#: Largest change of a group in one correction, as shares of its full width. The next share is tried
#: where the widths found leave more than half of the slack allowed.
_REACHES = (1 / 32, 1 / 16, 1 / 8, 1 / 4)
#: Multiple of the slack allowed: where every measured structure leaves more, the last correction is
#: taken unmeasured.
_TOO_MUCH_SLACK = 3.0
#: Relative decrease of the aim when widths come out that were measured already, and the number of
#: attempts.
_LOWER = 0.003
_ATTEMPTS = 6
#: Relative decrease of the aim that makes the next widths faster than those that missed.
_BELOW = 1e-6


@dataclass(frozen=True, kw_only=True)
class WidthSearch:
    """A choice of widths for the goals of a job [ours]; `measured` returns a new one.

    Latencies of several targets are the worst in proportion to its budget, in ms of the first
    budget.
    """

    #: Budget of each target.
    budgets_ms: tuple[float, ...]
    #: Score of every channel [G][C]; channels with higher scores are kept.
    scores: Sequence[Floats]
    #: Relative distance of the aim below the budget.
    margin: float
    #: Relative distance below the aim that is not worth another correction.
    slack: float
    #: Widths [G][...] worth using on every target.
    lattice: list[list[int]]
    #: Corrected predictions, one for each goal.
    calibrations: tuple[Calibration, ...]

    @classmethod
    def create(
        cls,
        predictors: Sequence[Predictor],
        budgets_ms: Sequence[float],
        scores: Sequence[Floats],
        *,
        margin: float,
        slack: float,
    ) -> WidthSearch:
        """A search before anything has been measured."""
        return cls(
            budgets_ms=tuple(budgets_ms),
            scores=scores,
            margin=margin,
            slack=slack,
            lattice=common_lattice(predictors),
            calibrations=tuple(Calibration(predictor=predictor) for predictor in predictors),
        )

    def measured(self, widths: Widths, measurements: FileMeasurements) -> WidthSearch:
        """The search after a measurement on every target."""
        pairs = zip(self.calibrations, measurements, strict=True)
        return replace(self, calibrations=tuple(c.observed(widths, m) for c, m in pairs))

    @property
    def budget_ms(self) -> float:
        """Budget of the first target."""
        return self.budgets_ms[0]

    @property
    def aim_ms(self) -> float:
        """Latency to aim at."""
        return self.budget_ms * (1 - self.margin)

    @property
    def limit_ms(self) -> float:
        """Highest latency of a structure: half of the margin is left for the delivered file."""
        return self.budget_ms * (1 - self.margin / 2)

    @property
    def measured_widths(self) -> list[Widths]:
        """Widths of all measurements, in their order."""
        return [observation.widths for observation in self.calibrations[0].observations]

    def latency_ms(self, widths: Sequence[Sequence[int]]) -> Floats:
        """Corrected latency [B] of width vectors [B][G]."""
        pairs = zip(self.calibrations, self.budgets_ms, strict=True)
        scaled = [c.latency_ms(widths) * (self.budget_ms / budget_ms) for c, budget_ms in pairs]
        worst: Floats = np.max(scaled, axis=0)
        return worst

    def one_ms(self, widths: Widths) -> float:
        """Corrected latency of one width vector [G]."""
        return float(self.latency_ms([widths])[0])

    def worst_ms(self, measurements: FileMeasurements) -> float:
        """The worst of the measurements on all targets."""
        pairs = zip(measurements, self.budgets_ms, strict=True)
        return max(m.latency_ms / budget_ms for m, budget_ms in pairs) * self.budget_ms

    def is_good(self, widths: Widths, latency_ms: float) -> bool:
        """Whether a structure is within the limit and leaves no slack worth a correction.

        A quarter of the slack allowed: correcting a structure costs a measurement, a file a
        training.
        """
        lowest_ms = self.aim_ms * (1 - self.slack / 4)
        return lowest_ms <= latency_ms <= self.limit_ms or (
            self._is_full(widths) and latency_ms <= self.limit_ms
        )

    def is_too_fast(self, widths: Widths, latency_ms: float) -> bool:
        """Whether a file leaves slack that wider layers could use."""
        return latency_ms < self.aim_ms * (1 - self.slack) and not self._is_full(widths)

    def next(self, widths: Widths, latency_ms: float) -> Widths:
        """The widths to measure after `widths`; the same ones where no others come closer.

        Args:
            latency_ms: of `widths`, as measured or as corrected.

        Raises:
            BudgetError: the latency is too high, and no narrower architecture exists.
        """
        is_within = latency_ms <= self.limit_ms
        aim_ms = self._aim_ms(widths, is_within=is_within)
        known = self.measured_widths
        for _ in range(_ATTEMPTS):
            found = self._reachable(widths, aim_ms)
            if is_within or found not in known:
                break
            aim_ms *= 1 - _LOWER
        return found

    def slowest_within(self, otherwise: Widths) -> Widths:
        """The slowest of the measured widths that is within the limit.

        Args:
            otherwise: widths to take where no measured ones are within the limit, or where they
                all leave far more slack than an unmeasured correction.
        """
        corrected_ms = {widths: self.one_ms(widths) for widths in self.measured_widths}
        within = [w for w in corrected_ms if corrected_ms[w] <= self.limit_ms]
        if otherwise not in corrected_ms:
            lowest_ms = self.budget_ms * (1 - _TOO_MUCH_SLACK * self.slack)
            within = [w for w in within if corrected_ms[w] >= lowest_ms]
        return max(within, key=lambda w: corrected_ms[w], default=otherwise)

    def _is_full(self, widths: Widths) -> bool:
        return all(w == choices[-1] for w, choices in zip(widths, self.lattice, strict=True))

    def _aim_ms(self, widths: Widths, *, is_within: bool) -> float:
        """The latency to aim at; after a miss it is below the corrected one of `widths`."""
        if is_within:
            return self.aim_ms
        return min(self.aim_ms, self.one_ms(widths) * (1 - _BELOW))

    def _reachable(self, widths: Widths, aim_ms: float) -> Widths:
        try:
            return self._nearest(widths, aim_ms)
        except BudgetError as error:
            raise BudgetError(
                f"A budget of {self.budget_ms:.4g} ms is below what this network reaches on the "
                f"device as measured. {error.message}",
                error.cure,
                error.lowest_ms,
            ) from error

    def _nearest(self, widths: Widths, aim_ms: float) -> Widths:
        """Widths that use the aim up with as small a change as possible.

        The smaller the change, the better the measurements hold.

        Raises:
            BudgetError: even the narrowest architecture is above the aim.
        """
        for reach in _REACHES:
            with suppress(BudgetError):
                found = self._fit(widths, self._lattice_near(widths, reach), aim_ms)
                if self.one_ms(found) >= aim_ms * (1 - self.slack / 2):
                    return found
        return self._fit(widths, self.lattice, aim_ms)

    def _lattice_near(self, widths: Widths, reach: float) -> list[list[int]]:
        return [
            [choice for choice in choices if abs(choice - width) <= reach * choices[-1]]
            for choices, width in zip(self.lattice, widths, strict=True)
        ]

    def _fit(self, widths: Widths, lattice: list[list[int]], aim_ms: float) -> Widths:
        return tuple(allocation.fit(widths, self.scores, self.latency_ms, lattice, aim_ms))
