"""Comparison of the outputs of two networks."""

from __future__ import annotations

import numpy as np

from latency_service.core.arrays import Floats32

Arrays = list[Floats32]
#: Maximum difference relative to the outputs; most wrong removals differ by far more. Of labels and
#: masks, the largest part that differs: where values are nearly equal, rounding decides.
TOLERANCE = 1e-3
#: What rounding makes of equal values, relative to the largest.
_ROUNDING = 1e-6
#: Least spread of an output, relative to its largest value.
_LEAST_SPREAD = 1e-3
#: The same of one channel of an output, which others may dwarf.
_LEAST_CHANNEL = 1e-2
_TINY = 1e-30


def agree(a: Arrays, b: Arrays, tolerance: float = TOLERANCE, *, fine: bool = False) -> bool:
    """Whether two lists of outputs are finite and equal.

    Args:
        tolerance: Maximum difference relative to the largest output, or to 1 where that is smaller.
        fine: Compare relative to the spread of each output instead, which neither a small unit
            nor a large mean hides, and within `TOLERANCE` to the spread of each channel.
    """
    if [x.shape for x in a] != [x.shape for x in b]:
        return False
    if not all(np.isfinite(x).all() for x in (*a, *b)):
        return False
    return all(
        difference(x, y, fine=fine) <= tolerance
        and (not fine or _channel_difference(x, y) <= TOLERANCE)
        for x, y in zip(a, b, strict=True)
    )


def difference(x: Floats32, y: Floats32, *, fine: bool = False) -> float:
    """Largest difference of two arrays relative to the outputs `x`, as `agree` takes it."""
    if not x.size:
        return 0.0
    if not _is_real(x):
        return float(np.mean(x != y))
    largest = float(np.max(np.abs(x)))
    if not fine:
        return float(np.max(np.abs(x - y))) / max(1.0, largest)
    scale = max(_half_range(x), _LEAST_SPREAD * largest, _TINY)
    return max(0.0, float(np.max(np.abs(x - y))) - _ROUNDING * largest) / scale


def spreads(x: Floats32) -> Floats32:
    """Scale of each value of an output: the spread of its channel, if others do not dwarf that.

    The channels of an output may lie on axis 1 or on the last.
    """
    largest = float(np.max(np.abs(x), initial=0))
    scale: Floats32 = np.full(x.shape, max(_LEAST_SPREAD * largest, _half_range(x), _TINY), x.dtype)
    for axis in {1, x.ndim - 1} if x.ndim > 1 and x.size else ():
        others = tuple(other for other in range(x.ndim) if other != axis)
        channel = np.ptp(x, axis=others, keepdims=True) / 2
        scale = np.minimum(scale, np.maximum(channel, max(_LEAST_CHANNEL * largest, _TINY)))
    return scale


def _channel_difference(x: Floats32, y: Floats32) -> float:
    if not _is_real(x) or not x.size:
        return 0.0
    apart = np.abs(x - y) - _ROUNDING * np.max(np.abs(x))
    return float(np.max(apart / spreads(x), initial=0))


def _half_range(x: Floats32) -> float:
    return float(np.ptp(x)) / 2 if x.size else 0.0


def _is_real(x: Floats32) -> bool:
    return x.dtype.kind not in "biu"
