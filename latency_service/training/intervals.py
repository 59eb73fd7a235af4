"""Prediction intervals by split-conformal calibration on the residuals of cross-validation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LEVEL = 0.9


def half_width(residuals: Floats, level: float = LEVEL) -> float:
    """The half-width q in log latency: ``latency * exp(-q) .. latency * exp(q)`` holds a new measurement with
    probability `level`.

    It is the ``ceil((n + 1) level)``-th smallest absolute residual (Vovk's split-conformal quantile), or the greatest
    where there are too few. `residuals` [N] are held out: log measured minus log predicted.
    """
    rank = min(len(residuals), int(np.ceil((len(residuals) + 1) * level)))
    return float(np.sort(np.abs(residuals))[rank - 1])


def coverage(residuals: Floats, fold_of: npt.NDArray[np.int64], level: float = LEVEL) -> float:
    """Share of measurements inside the interval that the *other* folds' residuals give."""
    inside = np.zeros(len(residuals), dtype=bool)
    for fold in np.unique(fold_of):
        held = fold_of == fold
        inside[held] = np.abs(residuals[held]) <= half_width(residuals[~held], level)
    return float(inside.mean())
