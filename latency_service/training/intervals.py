"""Prediction intervals by split-conformal calibration on the residuals of cross-validation."""

from __future__ import annotations

import numpy as np

from latency_service.core.arrays import Floats, Ints

LEVEL = 0.9
#: Cross-validation trains on four fifths. Models that learn at the usual rate err a tenth less with
#: all of them; what a choice of the best model by the same errors makes too little weighs that up.
STEEP = 0.9


def half_width(residuals: Floats, level: float = LEVEL) -> float:
    """The half-width q in log latency: ``latency * exp(-q) .. latency * exp(q)`` holds a new
    measurement with probability `level`.

    It is the ``ceil((n + 1) level)``-th smallest absolute residual (Vovk's split-conformal
    quantile), or the greatest where there are too few. `residuals` [N] are held out: log measured
    minus log predicted.
    """
    rank = min(len(residuals), int(np.ceil((len(residuals) + 1) * level)))
    return float(np.sort(np.abs(residuals))[rank - 1])


def coverage(residuals: Floats, fold_of: Ints, level: float = LEVEL) -> float:
    """Share of measurements inside the interval that the *other* folds' residuals give."""
    inside = np.zeros(len(residuals), dtype=bool)
    for fold in np.unique(fold_of):
        held = fold_of == fold
        inside[held] = np.abs(residuals[held]) <= half_width(residuals[~held], level)
    return float(inside.mean())


def gain(by_whole: Floats, by_folds: Floats) -> float:
    """Factor by which the errors of a whole model are expected to be smaller than those of
    cross-validation.

    Near as many measurements as a model has effective parameters it learns far more from the last
    fifth than it does elsewhere; an interval from cross-validation is then too wide. 1 where the
    gain is usual (`STEEP`). Ours.

    Args:
        by_whole: deviation [N] expected of each measurement from the model of all the others.
        by_folds: that from the model of cross-validation that did not see it [N].
    """
    ratio = float(np.median(by_whole) / np.median(by_folds))
    return ratio if ratio < STEEP else 1.0
