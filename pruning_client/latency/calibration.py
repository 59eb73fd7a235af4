"""Predictions of one target, corrected by what was measured there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from latency_service.core.arrays import Floats
from pruning_client.latency.predictor import LatencyEstimate, Predictor, Widths
from pruning_client.latency.readings import DEVIATIONS, FileMeasurement

#: Distance between two architectures, as the mean share of the full widths, below which they count
#: as the same.
_SAME_ARCHITECTURE = 1e-3
#: Standard deviations between the centre and either end of a predictor's interval (90 %).
_PREDICTED_DEVIATIONS = 1.645
#: Lowest standard deviation, relative, that a predictor's error is assumed to have.
_LOWEST_ERROR = 1e-3


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One measurement beside its prediction."""

    widths: Widths
    predicted_ms: float
    #: Share of the difference that is attributed to the predictor's error, 0 to 1.
    weight: float
    #: Logarithm of the factor that corrects predictions here: of measured divided by predicted
    #: latency, reduced to that share.
    log_factor: float


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A predictor and its observations; `observed` returns a new one [ours].

    Every observation gives the factor by which the predictor is wrong there. Elsewhere the factor
    is the geometric mean of the observed ones, weighted by the weight of each and by the inverse
    square of its distance: it holds well for neighbouring architectures, to which a correction of
    the widths moves.
    """

    predictor: Predictor
    observations: tuple[Observation, ...] = ()

    def observed(self, widths: Widths, measured: FileMeasurement) -> Calibration:
        """The calibration with one more measurement."""
        observation = _observation(widths, measured, self.predictor.evaluate([widths]))
        return replace(self, observations=(*self.observations, observation))

    def latency_ms(self, widths: Sequence[Sequence[int]]) -> Floats:
        """Corrected latency [B] of width vectors [B][G]."""
        predicted_ms = self.predictor.latency_ms(widths)
        if not self.observations:
            return predicted_ms
        return predicted_ms * np.exp(self._log_factors(widths))

    def _log_factors(self, widths: Sequence[Sequence[int]]) -> Floats:
        """Logarithms [B] of the factors that correct the predictions for `widths` [B][G]."""
        observed = np.array([observation.log_factor for observation in self.observations])
        weights = np.array([observation.weight for observation in self.observations])
        weights = weights * self._proximity(widths)
        found: Floats = (weights * observed).sum(axis=1) / weights.sum(axis=1)
        return found

    def _proximity(self, widths: Sequence[Sequence[int]]) -> Floats:
        """Inverse square of the distance [B, N] of `widths` [B][G] to the N observations."""
        full = np.asarray(self.predictor.sidecar.full_widths, np.float64)
        asked = np.asarray(widths, np.float64)[:, None] / full
        known = np.array([observation.widths for observation in self.observations]) / full
        distance = np.abs(asked - known).mean(axis=2)
        found: Floats = 1 / (distance**2 + _SAME_ARCHITECTURE**2)
        return found


def _observation(
    widths: Widths, measured: FileMeasurement, predicted: LatencyEstimate
) -> Observation:
    predicted_ms = float(predicted.latency_ms[0])
    difference = float(np.log(measured.latency_ms / predicted_ms))
    weight = _weight(difference, measured, predicted)
    return Observation(
        widths=widths, predicted_ms=predicted_ms, weight=weight, log_factor=weight * difference
    )


def _weight(difference: float, measured: FileMeasurement, predicted: LatencyEstimate) -> float:
    """Share of a difference in logarithms that is attributed to the predictor's error [ours].

    It follows from the two variances, so that a disturbed machine does not lead the widths astray;
    the predictor's error is assumed to be at least as large as the measurement's interval proves.
    """
    noise = measured.deviation
    error = np.log(predicted.upper_ms[0] / predicted.lower_ms[0]) / (2 * _PREDICTED_DEVIATIONS)
    error = max(error, abs(difference) - DEVIATIONS * noise, _LOWEST_ERROR)
    return float(error**2 / (error**2 + noise**2))
