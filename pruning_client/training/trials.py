"""Timed trials: which of two ways of training a network is faster on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable

#: Number of steps that are timed, after a first one that is not.
_TIMED_STEPS = 2

Clock = Callable[[], float]
#: The clock of trials, s.
CLOCK: Clock = time.perf_counter


def shortest_seconds(step: Callable[[], object], clock: Clock) -> float:
    """The shortest of a few steps after a first one, s."""
    step()
    found = []
    for _ in range(_TIMED_STEPS):
        begun = clock()
        step()
        found.append(clock() - begun)
    return min(found)
