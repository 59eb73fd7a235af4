"""Statistics that pages show: intervals of shares, rank correlations and ratios; fronts. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log, sqrt

import numpy as np
from pydantic import BaseModel, Field

#: Quantile of the normal distribution of a two-sided 95 % interval.
_Z95 = 1.959964


class Interval(BaseModel):
    """A value with its 95 % interval."""

    value: float
    lower: float
    upper: float


def share_interval(count: float, n: int) -> Interval:
    """Wilson's 95 % interval of a share: `count` of `n`.

    Raises:
        ValueError: `n` is not positive.
    """
    if n <= 0:
        raise ValueError("a share of nothing has no interval")
    share = count / n
    centre = (share + _Z95**2 / (2 * n)) / (1 + _Z95**2 / n)
    half = _Z95 / (1 + _Z95**2 / n) * sqrt(share * (1 - share) / n + _Z95**2 / (4 * n**2))
    # rounding must not put a share of none or all outside its interval
    lower = min(share, max(0.0, centre - half))
    return Interval(value=share, lower=lower, upper=max(share, min(1.0, centre + half)))


def ratio_interval(value: Interval, base: Interval) -> Interval:
    """The ratio of two independent positive values, by their logarithms."""
    ratio = log(value.value / base.value)
    below = sqrt(log(value.value / value.lower) ** 2 + log(base.upper / base.value) ** 2)
    above = sqrt(log(value.upper / value.value) ** 2 + log(base.value / base.lower) ** 2)
    return Interval(value=exp(ratio), lower=exp(ratio - below), upper=exp(ratio + above))


def spearman_interval(correlation: float, n: int) -> Interval | None:
    """The 95 % interval of a rank correlation by Fisher's transformation with the variance of
    Bonett and Wright (2000); None for fewer than five pairs.
    """
    if n < 5:
        return None
    bounded = min(max(correlation, -1 + 1e-9), 1 - 1e-9)
    centre = np.arctanh(bounded)
    half = _Z95 * sqrt((1 + bounded**2 / 2) / (n - 3))
    low, high = np.tanh([centre - half, centre + half])
    return Interval(value=correlation, lower=float(low), upper=float(high))


def front(costs: Sequence[float], gains: Sequence[float]) -> list[bool]:
    """Which points lie on the Pareto front: no other has a cost at most as high and a gain at
    least as high, one of the two better. By one sort.
    """
    order = sorted(range(len(costs)), key=lambda at: (costs[at], -gains[at]))
    is_on = [False] * len(costs)
    best: tuple[float, float] | None = None
    for at in order:
        if best is None or gains[at] > best[1]:
            best = (costs[at], gains[at])
            is_on[at] = True
        elif (costs[at], gains[at]) == best:
            is_on[at] = True
    return is_on


class Verdict(BaseModel):
    """Whether a ratio differs from one."""

    word: str = Field(description="faster, slower, no difference seen")
    reason: str


def verdict_of(ratio: Interval, floor_percent: float | None) -> Verdict:
    """Judge a latency relative to a baseline: a difference needs an interval clear of one, and a
    size beyond the repeatability floor.

    Args:
        floor_percent: median difference between repeated measurements, per cent; None if unknown.
    """
    off = abs(ratio.value - 1) * 100
    if ratio.lower <= 1 <= ratio.upper:
        return Verdict(word="no difference seen", reason="the 95 % interval includes 1")
    if floor_percent is not None and off <= floor_percent:
        reason = f"{off:.1f} % is within the repeatability floor of {floor_percent:.1f} %"
        return Verdict(word="no difference seen", reason=reason)
    word = "faster" if ratio.value < 1 else "slower"
    return Verdict(word=word, reason="the 95 % interval is clear of 1")
