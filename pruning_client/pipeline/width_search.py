"""The closed loop: what measurements say of the predictor, and which widths use the budget and no
more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from latency_service.core.arrays import Floats
from pruning_client.errors import BudgetError
from pruning_client.latency.multi_target import worst_of
from pruning_client.latency.predictor import LatencyEstimate, Widths
from pruning_client.methods import allocation
from pruning_client.pipeline.goals import Goal
from pruning_client.pipeline.measure import FileMeasurement, FileMeasurements, verification
from pruning_client.pipeline.verify import Verify
from pruning_client.reports.schema import Stage, Verification

#: Distance between architectures, as a mean share of the full widths, below which two are the same
#: to the correction.
_NEAR = 1e-3
#: Standard deviations of a predictor's error that its interval (90 %) and a measurement's (95 %)
#: have on either side.
_PREDICTED = 1.645
_MEASURED = 1.96
#: Standard deviation, relative, that every predictor's error has at least.
_LEAST = 1e-3
#: How far a correction may move a group, as shares of its full width; the next where half of the
#: slack allowed is left.
_REACHES = (1 / 32, 1 / 16, 1 / 8, 1 / 4)
#: The last correction is taken unmeasured where what was measured leaves more than the slack
#: allowed, so many times.
_UNMEASURED = 2.0
#: When widths that were measured already come out again, how far to lower the aim, relative, and
#: how often.
_LOWER = 0.003
_TRIES = 6


class _Known(NamedTuple):
    """An architecture that was measured."""

    widths: Widths
    #: on every target the logarithm of the factor by which the prediction was wrong [targets]
    factor: Floats
    #: how far that is believed, up to 1 [targets]
    belief: Floats


@dataclass
class Correction:
    """Predictions corrected by the measurements of this job, and widths corrected by them [ours].

    Every measured architecture says by which factor the predictor is wrong there. Where the
    measurement is unstable, of the factor's logarithm so much is believed as the variances of
    prediction and measurement allow: a disturbed machine leads nothing far astray. Elsewhere the
    factor is the mean of the known ones in logarithms, each weighted by that belief and by the
    inverse square of its distance: it holds well for the neighbouring architectures that a
    correction moves to.

    Latencies of several targets are taken as the worst, in proportion to its budget, in ms of the
    first budget.
    """

    goals: Sequence[Goal]
    scores: list[Floats]
    config: Verify
    log: list[Verification] = field(default_factory=list)
    #: corrections of the widths so far
    rounds: int = 0
    _known: list[_Known] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._predictor = worst_of(
            [goal.predictor for goal in self.goals], [goal.budget_ms for goal in self.goals]
        )

    @property
    def budget_ms(self) -> float:
        """Of the first target."""
        return self.goals[0].budget_ms

    def settle(
        self, widths: Sequence[int], measure: Callable[[Widths], FileMeasurements]
    ) -> Widths:
        """Measure structures and correct them; the slowest of those seen that keeps the budget.

        One round is left for the file that will be delivered: where those seen miss the budget, or
        leave far more than another correction is worth, it is the last correction, which was not
        measured, if there is one.

        Raises:
            BudgetError: none of those measured keeps it, and none narrower is there.
        """
        current = tuple(widths)
        while True:
            self.note("structure", current, measure(current))
            here_ms = self._believed_ms(current)
            if self.is_good(current, here_ms, self.wanted_ms):
                return current
            following = self.next(current, here_ms)
            if following in self._seen:
                break
            if self.rounds >= self.config.rounds - 1:
                current = following
                break
            current = following
            self.rounds = self.rounds + 1
        believed = {widths: self._believed_ms(widths) for widths in self._seen}
        least = (
            0.0 if current in believed else self.budget_ms * (1 - _UNMEASURED * self.config.slack)
        )
        keeping = [widths for widths in believed if least <= believed[widths] <= self.wanted_ms]
        return max(keeping, key=lambda widths: believed[widths]) if keeping else current

    def next(self, widths: Widths, here_ms: float) -> Widths:
        """Where to go from widths that were measured; they themselves where nothing else comes
        closer.

        Args:
            here_ms: their latency, whether as measured or as believed.

        Raises:
            BudgetError: the measured latency is too high, and no narrower architecture is there.
        """
        aim = self.budget_ms * (1 - self.config.margin)
        if here_ms > self.wanted_ms:
            aim = min(aim, self._believed_ms(widths) * (1 - 1e-6))
        found = widths
        for _ in range(_TRIES):
            try:
                found = self._near(widths, aim)
            except BudgetError as error:
                raise BudgetError(
                    f"A budget of {self.budget_ms:.4g} ms is below what this network reaches "
                    "on the device as "
                    f"measured. {error.message}",
                    error.cure,
                ) from error
            if found not in self._seen or here_ms <= self.wanted_ms:
                break
            aim *= 1 - _LOWER
        return found

    def _near(self, widths: Widths, aim_ms: float) -> Widths:
        """Widths that use the aim up, no further away than it takes: what was measured holds the
        better the nearer.

        Raises:
            BudgetError: even the narrowest architecture is above the aim.
        """
        whole = self._predictor.lattice
        for reach in _REACHES:
            lattice = [
                [choice for choice in choices if abs(choice - width) <= reach * choices[-1]]
                for choices, width in zip(whole, widths, strict=True)
            ]
            with suppress(BudgetError):
                found = tuple(allocation.fit(widths, self.scores, self.latency_ms, lattice, aim_ms))
                if self._believed_ms(found) >= aim_ms * (1 - self.config.slack / 2):
                    return found
        return tuple(allocation.fit(widths, self.scores, self.latency_ms, whole, aim_ms))

    def note(self, stage: Stage, widths: Widths, readings: FileMeasurements) -> None:
        """Remember measurements of one file, one on each target."""
        factors = []
        beliefs = []
        for goal, measured in zip(self.goals, readings, strict=True):
            answer = goal.predictor.evaluate([widths])
            predicted = float(answer.latency_ms[0])
            factors.append(np.log(measured.latency_ms / predicted))
            beliefs.append(_belief(factors[-1], measured, answer))
            self.log.append(verification(stage, widths, predicted, measured, goal.device.name))
        self._known.append(_Known(widths, np.array(factors), np.array(beliefs)))

    def latency_ms(self, widths: Sequence[Sequence[int]]) -> Floats:
        """Corrected latency [B] of many width vectors [B][G]."""
        factors = np.exp(self._residuals(np.asarray(widths, np.float64)))
        every = [
            goal.predictor.latency_ms(widths)
            * factors[:, index]
            * (self.budget_ms / goal.budget_ms)
            for index, goal in enumerate(self.goals)
        ]
        worst: Floats = np.max(every, axis=0)
        return worst

    def worst_ms(self, readings: FileMeasurements) -> float:
        """Of measurements on every target the worst, in ms of the first budget."""
        pairs = zip(readings, self.goals, strict=True)
        return (
            max(measured.latency_ms / goal.budget_ms for measured, goal in pairs) * self.budget_ms
        )

    @property
    def wanted_ms(self) -> float:
        """Half of the margin is kept for the measurement of the delivered file, which may come out
        higher.
        """
        return self.budget_ms * (1 - self.config.margin / 2)

    def is_good(self, widths: Widths, here_ms: float, limit_ms: float) -> bool:
        """Whether widths of this latency keep the limit and leave no slack worth another round."""
        full = all(
            width == choices[-1]
            for width, choices in zip(widths, self._predictor.lattice, strict=True)
        )
        return here_ms <= limit_ms and (full or here_ms >= self.budget_ms * (1 - self.config.slack))

    @property
    def _seen(self) -> list[Widths]:
        return [known.widths for known in self._known]

    def _believed_ms(self, widths: Widths) -> float:
        return float(self.latency_ms([widths])[0])

    def _residuals(self, widths: Floats) -> Floats:
        """Logarithms [B, targets] of what predictions for `widths` [B, G] are to be
        multiplied by.
        """
        if not self._known:
            return np.zeros((len(widths), len(self.goals)))
        full = np.asarray(self._predictor.sidecar.full_widths, np.float64)
        distance = np.abs(widths[:, None] / full - np.array(self._seen) / full).mean(axis=2)
        # a measurement [1, N, targets] pulls on a prediction [B, 1, targets]
        pull = (
            np.array([known.belief for known in self._known]) / (distance**2 + _NEAR**2)[:, :, None]
        )
        factors = np.array([known.belief * known.factor for known in self._known])
        found: Floats = (pull * factors).sum(axis=1) / pull.sum(axis=1)
        return found


def _belief(factor: float, measured: FileMeasurement, predicted: LatencyEstimate) -> float:
    """The share of a factor's logarithm that is taken for the predictor's error, 0 to 1 [ours].

    All of it after a stable measurement. After an unstable one by the two variances, where the
    predictor is taken to be at least as wrong as the measurement surely shows.
    """
    if measured.verdict == "ok":
        return 1.0
    noise = np.log(measured.upper_ms / measured.lower_ms) / (2 * _MEASURED)
    wrong = np.log(predicted.upper_ms[0] / predicted.lower_ms[0]) / (2 * _PREDICTED)
    wrong = max(wrong, abs(factor) - _MEASURED * noise, _LEAST)
    return float(wrong**2 / (wrong**2 + noise**2))
