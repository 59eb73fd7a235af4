"""Whether a machine has changed its speed under an unchanged fingerprint: told by its canaries.
Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

#: Relative change that all canaries must show: more than calibrations of one machine differ by.
CHANGED = 0.10
#: How many times faster than before canaries may run. A first calibration beside busy neighbours is
#: too slow, but not by that much.
PLAUSIBLE_FACTOR = 2.0


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


def in_common(
    known: Sequence[str],
    known_ms: Sequence[float],
    calibrated: Sequence[str],
    calibrated_ms: Sequence[float],
) -> tuple[list[float], list[float]]:
    """Latencies of the canaries that two calibrations have in common, ms, same order: a slow device
    may read fewer of them when it calibrates anew.
    """
    now = dict(zip(calibrated, calibrated_ms, strict=True))
    pairs = [(ms, now[name]) for name, ms in zip(known, known_ms, strict=True) if name in now]
    return [before for before, _ in pairs], [after for _, after in pairs]


def why_not_trusted(known_ms: Sequence[float], calibrated_ms: Sequence[float]) -> str | None:
    """Why the results of a device are not to be trusted whose canaries ran at `known_ms` and now
    run at `calibrated_ms`, both ms, same order; None where they are.

    Slower canaries under an unchanged fingerprint mean a sick device (hot, badly fed, shared), much
    faster ones a lying one. Somewhat faster ones mean that the first calibration was disturbed.
    """
    if not has_changed(known_ms, calibrated_ms):
        return None
    factors = [now / before for now, before in zip(calibrated_ms, known_ms, strict=True)]
    if min(factors) <= 1 and max(factors) >= 1 / PLAUSIBLE_FACTOR:
        return None
    return (
        f"its canaries take {_milliseconds(calibrated_ms)} instead of {_milliseconds(known_ms)} "
        "though nothing in its fingerprint has changed"
    )


def _milliseconds(values: Sequence[float]) -> str:
    return " / ".join(f"{value:.3g}" for value in values) + " ms"
