"""What a predictor says of architectures it has not seen, kept beside it."""

from __future__ import annotations

import numpy as np

from latency_service.core.arrays import Floats, Ints
from latency_service.predictors.schemas import CoveragePoint, HeldOut
from latency_service.training.dataset import Architectures
from latency_service.training.intervals import coverage

#: Levels at which the calibration of the intervals is tried.
LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)


def held_out_pairs(
    measured: Architectures, log_predicted: Floats, residuals: Floats, folds: Ints
) -> HeldOut:
    """Predictions of cross-validation beside the measurements, and how often intervals hold.

    Args:
        measured: the architectures [N].
        log_predicted: log of the latency in ms that the model without them predicts [N].
        residuals: log measured minus log predicted as the interval is made from them [N].
        folds: the fold of each architecture [N].
    """
    return HeldOut(
        widths=np.asarray(measured.widths, dtype=np.float64).tolist(),
        measured_ms=measured.latency_ms.tolist(),
        predicted_ms=np.exp(log_predicted).tolist(),
        coverage=[
            CoveragePoint(nominal=level, empirical=coverage(residuals, folds, level))
            for level in LEVELS
        ],
    )
