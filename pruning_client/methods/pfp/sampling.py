"""Sample sizes and draws of provable filter pruning.

Constants are those of the public code. Probabilities p [C] are sensitivities divided by their sum.
"""

from __future__ import annotations

import math

import numpy as np

from latency_service.core.arrays import Floats, Ints

#: Constant of the sensitivities' distribution.
_C = 3.0
_K = 3.0


def images_needed(widest: int, filters: int, delta: float) -> int:
    """Number of samples for the sensitivities to hold with probability 1 - delta.

    Args:
        widest: Number of filters of the widest layer.
        filters: Number of filters of all layers.
    """
    return math.ceil(_C * math.log(8 * widest * filters / delta))


def complexity(total: float, patches: int, taps: int, delta: float) -> float:
    """Factor of the sample size of a layer, from the sum of its sensitivities."""
    return 2 * _C * math.log(8 * (patches + 1) * taps / delta) * total


def draws(epsilon: float, factor: float) -> float:
    """Number of draws that keep the relative error within epsilon, with probability 1 - delta.

    Args:
        factor: `complexity` of the layer.
    """
    return max(1.0, math.ceil(_K * (6 + 2 * epsilon) * factor / epsilon**2))


def epsilon_of(count: float, factor: float) -> float:
    """The epsilon for which `draws` gives this number of draws, before it is rounded up; 0 for
    infinitely many.
    """
    if math.isinf(count):
        return 0.0
    half = _K * factor
    return (half + math.sqrt(half**2 + 6 * half * count)) / count


def expected_distinct(p: Floats, count: float) -> float:
    """Expected number of distinct channels among a number of draws."""
    with np.errstate(divide="ignore"):
        return float(-np.expm1(count * np.log1p(-np.minimum(p, 1))).sum())


def draws_for(p: Floats, distinct: int) -> float:
    """Smallest number of draws with this expected number of distinct channels, rounded up.

    Infinite when not even every channel that can be drawn is enough.
    """
    possible = int((p > 0).sum())
    if distinct > possible or (distinct == possible and possible > 1):
        return math.inf
    low, high = 0.0, 1.0
    while expected_distinct(p, high) < distinct - 1e-9:
        low, high = high, 2 * high
    while high - low > 1:
        middle = math.floor((low + high) / 2)
        if expected_distinct(p, middle) < distinct - 1e-9:
            low = middle
        else:
            high = middle
    return high


def draw(p: Floats, distinct: int, generator: np.random.Generator) -> Ints:
    """Multiplicities [C] of channels drawn with replacement until so many are distinct.

    The draws are the arrivals of independent Poisson processes with the rates p up to the first
    arrival of the last channel: the same distribution, whatever the number of draws.

    Args:
        distinct: At most the number of channels with p > 0.
    """
    rates = np.where(p > 0, p, 1.0)
    first = np.where(p > 0, generator.exponential(size=len(p)) / rates, np.inf)
    end = np.sort(first)[distinct - 1]
    more = generator.poisson(p * np.where(first <= end, end - first, 0.0))
    return np.asarray(np.where(first <= end, 1 + more, 0), np.int64)
