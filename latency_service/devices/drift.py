"""Whether a machine has changed its speed under an unchanged fingerprint: told by its canaries.
Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

#: Relative change that all canaries must show: more than calibrations of one machine differ by.
CHANGED = 0.10


def has_changed(known_ms: Sequence[float], calibrated_ms: Sequence[float]) -> bool:
    """Whether canaries calibrated at `calibrated_ms` run at another speed than at `known_ms`, both
    ms, same order.

    All of them must have moved the same way: a neighbour on the machine slows them unequally, and a
    calibration from a few readings moves them here and there. The agent itself moves a calibration
    upwards only after five processes in a row that were steady (`agent.calibration`), so one odd
    reading changes nothing.
    """
    factors = [now / before for now, before in zip(calibrated_ms, known_ms, strict=True)]
    if not factors:
        return False
    return max(factors) < 1 - CHANGED or min(factors) > 1 + CHANGED
