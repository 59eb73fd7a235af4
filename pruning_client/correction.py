"""The closed loop: what measurements say of the predictor, and which widths use the budget and no more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from pruning_client import allocators
from pruning_client.config import VerifyConfig
from pruning_client.errors import BudgetError
from pruning_client.methods.base import Floats
from pruning_client.results import Stage, Verification
from pruning_client.targets import Goal, worst_of
from pruning_client.verify import Readings, Widths, verification

#: Distance between architectures, as a mean share of the full widths, below which two are the same to the correction.
_NEAR = 1e-3
#: When widths that were measured already come out again, how far to lower the aim, relative, and how often.
_LOWER, _TRIES = 0.003, 6


@dataclass
class Correction:
    """Predictions corrected by the measurements of this job, and widths corrected by them [ours].

    Every measured architecture says by which factor the predictor is wrong there. Elsewhere the factor is the mean of
    the known ones in logarithms, each weighted by the inverse square of its distance: it holds well for the
    neighbouring architectures that a correction moves to.

    Latencies of several targets are taken as the worst, in proportion to its budget, in ms of the first budget.
    """

    goals: Sequence[Goal]
    scores: list[Floats]
    config: VerifyConfig
    seen: dict[Widths, Readings] = field(default_factory=dict)
    log: list[Verification] = field(default_factory=list)
    #: corrections of the widths so far
    rounds: int = 0
    _factors: list[tuple[Widths, Floats]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._predictor = worst_of(self.goals)

    @property
    def budget_ms(self) -> float:
        """Of the first target."""
        return self.goals[0].budget_ms

    def settle(self, widths: Sequence[int], measure: Callable[[Widths], Readings]) -> Widths:
        """Measure structures and correct them; the slowest of those seen that keeps the budget.

        One round is left for the file that will be delivered.

        Raises:
            BudgetError: none of those measured keeps it, and none narrower is there.
        """
        current = tuple(widths)
        while True:
            self.note("structure", current, measure(current))
            if self.is_good(current, self.wanted_ms):
                return current
            following = self.next(current)
            if following in self.seen:
                break
            if self.rounds >= self.config.rounds - 1:
                current = following
                break
            current, self.rounds = following, self.rounds + 1
        keeping = [seen for seen in self.seen if self.worst_ms(self.seen[seen]) <= self.wanted_ms]
        return max(keeping, key=lambda seen: self.worst_ms(self.seen[seen])) if keeping else current

    def next(self, widths: Widths) -> Widths:
        """Where to go from widths that were measured; they themselves where nothing else comes closer.

        Raises:
            BudgetError: the measured latency is too high, and no narrower architecture is there.
        """
        aim, here = self.budget_ms * (1 - self.config.margin), self.worst_ms(self.seen[widths])
        if here > self.wanted_ms:
            aim = min(aim, float(self.latency_ms([widths])[0]) * (1 - 1e-6))
        found = widths
        for _ in range(_TRIES):
            try:
                found = tuple(allocators.fit(widths, self.scores, self.latency_ms, self._predictor.lattice, aim))
            except BudgetError as error:
                raise BudgetError(
                    f"A budget of {self.budget_ms:.4g} ms is below what this network reaches on the device as "
                    f"measured. {error.message}",
                    error.cure,
                ) from error
            if found not in self.seen or here <= self.wanted_ms:
                break
            aim *= 1 - _LOWER
        return found

    def note(self, stage: Stage, widths: Widths, readings: Readings) -> None:
        """Remember measurements of one file, one on each target."""
        self.seen[widths] = readings
        factors = []
        for goal, measured in zip(self.goals, readings, strict=True):
            predicted = goal.predictor.one_ms(widths)
            factors.append(np.log(measured.latency_ms / predicted))
            self.log.append(verification(stage, widths, predicted, measured, goal.device.name))
        self._factors.append((widths, np.array(factors)))

    def latency_ms(self, widths: Sequence[Sequence[int]]) -> Floats:
        """Corrected latency [B] of many width vectors [B][G]."""
        factors = np.exp(self._residuals(np.asarray(widths, np.float64)))
        every = [
            goal.predictor.latency_ms(widths) * factors[:, index] * (self.budget_ms / goal.budget_ms)
            for index, goal in enumerate(self.goals)
        ]
        worst: Floats = np.max(every, axis=0)
        return worst

    def worst_ms(self, readings: Readings) -> float:
        """Of measurements on every target the worst, in ms of the first budget."""
        pairs = zip(readings, self.goals, strict=True)
        return max(measured.latency_ms / goal.budget_ms for measured, goal in pairs) * self.budget_ms

    @property
    def wanted_ms(self) -> float:
        """Half of the margin is kept for the measurement of the delivered file, which may come out higher."""
        return self.budget_ms * (1 - self.config.margin / 2)

    def is_good(self, widths: Widths, limit_ms: float) -> bool:
        """Whether widths that were measured keep the limit and leave no slack worth another round."""
        full = all(width == choices[-1] for width, choices in zip(widths, self._predictor.lattice, strict=True))
        latency = self.worst_ms(self.seen[widths])
        return latency <= limit_ms and (full or latency >= self.budget_ms * (1 - self.config.slack))

    def _residuals(self, widths: Floats) -> Floats:
        """Logarithms [B, targets] of what predictions for `widths` [B, G] are to be multiplied by."""
        if not self._factors:
            return np.zeros((len(widths), len(self.goals)))
        full = np.asarray(self._predictor.sidecar.full_widths, np.float64)
        known = np.array([at for at, _ in self._factors], np.float64) / full
        distance = np.abs(widths[:, None] / full - known).mean(axis=2)
        weights = 1 / (distance**2 + _NEAR**2)
        found: Floats = (weights / weights.sum(axis=1, keepdims=True)) @ np.array([f for _, f in self._factors])
        return found
