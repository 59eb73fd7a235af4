"""Held-out errors of any model, and the folds on which all of them are compared."""

from __future__ import annotations

import numpy as np

from latency_service.core.arrays import Floats, Ints
from latency_service.measurements.ranks import spearman
from latency_service.predictors.schemas import ModelErrors

FOLDS = 5


def fold_of(latency_ms: Floats, seed: int) -> Ints:
    """The fold [N] of each measurement: every fold covers the whole range of latency."""
    rng = np.random.default_rng(seed)
    folds = np.zeros(len(latency_ms), dtype=np.int64)
    ordered = np.argsort(latency_ms, kind="stable")
    for first in range(0, len(ordered), FOLDS):
        block = ordered[first : first + FOLDS]
        folds[block] = rng.permutation(FOLDS)[: len(block)]
    return folds


def errors(
    name: str, log_predicted: Floats, latency_ms: Floats, *, differentiable: bool
) -> ModelErrors:
    """Errors of held-out predictions [N] (log of ms) against measurements [N] (ms)."""
    predicted = np.exp(log_predicted)
    off = 100 * np.abs(predicted / latency_ms - 1)
    return ModelErrors(
        name=name,
        mape=float(off.mean()),
        p90=float(np.quantile(off, 0.9)),
        within_5=100 * float((off <= 5).mean()),
        within_10=100 * float((off <= 10).mean()),
        spearman=spearman(predicted, latency_ms),
        differentiable=differentiable,
    )
