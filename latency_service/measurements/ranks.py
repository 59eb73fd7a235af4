"""Ranks and their correlation. Pure; numpy only."""

from __future__ import annotations

import numpy as np

from latency_service.core.arrays import Floats


def spearman(first: Floats, second: Floats) -> float:
    """Rank correlation of two samples [N]; 0 where one of them is constant."""
    ranks = [ranks_of(values) for values in (first, second)]
    if any(np.ptp(rank) == 0 for rank in ranks):
        return 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def ranks_of(values: Floats) -> Floats:
    """Ranks [N] from 1, equal values sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[inverse], dtype=np.float64)
