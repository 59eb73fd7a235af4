"""Scores that keep a given order of channels."""

from __future__ import annotations

import numpy as np

from latency_service.core.arrays import Floats, Ints
from pruning_client.methods.base import LEAST_SCORE

#: Factor between scores that would be equal otherwise: `best_channels` keeps the lower index of
#: equal ones.
_STEP = 1 - 1e-9


def in_order(values: Floats, order: Ints) -> Floats:
    """Scores [C] with these values [C], the highest for the first channel of an order [C].

    The closed loop corrects widths by the scores alone. A method that chooses channels in another
    way than by score gives them this order, so that `best_channels` keeps its choice.
    """
    ranked = np.maximum(np.sort(values)[::-1], LEAST_SCORE)
    for place in range(1, len(ranked)):
        ranked[place] = min(ranked[place], ranked[place - 1] * _STEP)
    scores = np.empty(len(ranked))
    scores[order] = ranked
    return scores
