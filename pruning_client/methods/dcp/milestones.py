"""When channels are removed, and which."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from latency_service.core.arrays import Floats
from pruning_client.methods.allocation import Latency, Lattice, narrowest, round_up

#: First and last milestone, as shares of the run [code].
_FIRST = 0.25
_LAST = 0.6
#: Number of width vectors in one call of the predictor.
_PREDICTED_AT_ONCE = 64


def milestone_steps(steps: int, count: int) -> list[int]:
    """Steps after which channels are removed [count], evenly spaced; a single one is the last."""
    shares = np.linspace(_FIRST, _LAST, count) if count > 1 else [_LAST]
    return [max(1, round(share * steps)) for share in shares]


def milestone_goals(full_ms: float, target_ms: float, count: int) -> list[float]:
    """Predicted latency after each milestone m [count], ms: lat(C) R^(m/M), with R such that the
    last one is the target.
    """
    share = min(1.0, target_ms / full_ms)
    goals = [full_ms * share ** (m / count) for m in range(1, count)]
    return [*goals, max(target_ms, full_ms * share)]


def remove_worst(
    scores: Sequence[Floats], latency: Latency, lattice: Lattice, goal_ms: float
) -> list[int]:
    """Widths [G] after the channels with the lowest scores of all groups are removed, as few as
    bring the predicted latency to the goal.

    Widths are on the lattice: a group gets narrower when enough of its channels are among the worst
    for one lattice step. Widths at their minimum stay.

    Args:
        scores: Scores of the channels that are still there [G][n].
    """
    path = _narrowing(scores, lattice)
    while part := list(islice(path, _PREDICTED_AT_ONCE)):
        met = np.flatnonzero(latency(part) <= goal_ms)
        if len(met):
            return part[int(met[0])]
    return narrowest(lattice)


def _narrowing(scores: Sequence[Floats], lattice: Lattice) -> Iterator[list[int]]:
    """Width vectors on the lattice, from the present one to the narrowest."""
    counts = [len(score) for score in scores]
    widths = round_up(counts, lattice)
    choices = [set(group) for group in lattice]
    yield list(widths)
    groups = np.repeat(np.arange(len(scores)), counts)
    for group in groups[np.argsort(np.concatenate(scores), kind="stable")]:
        counts[group] -= 1
        if counts[group] in choices[group] and counts[group] < widths[group]:
            widths[group] = counts[group]
            yield list(widths)
