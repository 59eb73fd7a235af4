"""The noise correction: a network's latency without the inflation that the canaries show. Pure.

A round is quarantined on evidence: it was interrupted or robbed of processor time (its latency is
then worthless), or other tasks were ready to run on the device, or a canary was far off its floor.

Small inflation is doubted because it is mostly memory traffic: it slows the canary that misses its
cache and leaves a network that fits alone, so dividing it out adds more error than it removes.
Large inflation slows everything.

A reference network, the full-width architecture of the measured search space, is one more canary:
interference slows a network as it slows the one that it was cut from. Measured on a 2-core virtual
machine beside a test suite, four processes of 12 s, standard deviation of a latency between
processes, per cent, without and with the reference: ResNet-56 at three quarters of its widths
1.72 and .54, at half .15 and .14; a MobileNetV2 of 18 ms at three quarters 3.8 and 2.9; ResNet-20
and a MobileNetV2 of .7 ms, which lie between the canaries, the same.

The nearer a network's latency is to the reference's, the less small inflation is doubted; at the
reference all of it is divided out. Standard deviation of the dense network's latency between three
processes on a quiet machine, per cent, with small inflation doubted and not doubted: ResNet-20 .22
and .10, ResNet-56 .54 and .37, VGG-11 at half its widths 1.4 and .53.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from latency_service.core.arrays import Bools, Floats
from latency_service.measurements.schemas import Calibration, Round

#: A canary within this share of its floor is at its floor.
QUIET = 0.03
#: Log-inflation of a canary that is far off its floor.
FAR = 0.1
#: Least log-inflation that is divided out in full; below it, in proportion to itself.
TRUSTED_INFLATION = 0.1
#: Canaries count beside a reference when their floor is at most this share of its.
REFERENCE_SPACING = 0.7


@dataclass(frozen=True, kw_only=True)
class Corrected:
    """The rounds of one measurement, corrected. Arrays [N] in the order of the rounds."""

    #: Latency with the canaries' inflation divided out, ms.
    latency_ms: Floats
    #: Log of the inflation that the canaries show at this latency.
    inflation: Floats
    #: Part of the log-inflation that was divided out.
    removed: Floats
    #: Closeness of the network to the reference, on a logarithmic scale of latency: from 0 at the
    #: slowest canary that counts, and below it, to 1 at the reference and beyond; 0 without one.
    likeness: Floats
    #: Whether every canary was at its floor.
    quiet: Bools
    #: Whether the round is worthless: interrupted, or deprived of processor time.
    disturbed: Bools
    #: evidence against the round, those that are disturbed among them
    quarantined: Bools


def correct(rounds: Sequence[Round], calibration: Calibration) -> Corrected:
    """Divide out of every round the inflation that its canaries show.

    Inflation is taken as log-linear in the true latency between canaries and constant beyond them;
    a reference counts as a canary.
    A network observed between two canaries' readings therefore lies at the same place between their
    floors: no iteration is needed.

    Raises:
        ValueError: no rounds, or readings that do not fit the calibration.
    """
    if not rounds:
        raise ValueError("no rounds to correct: a measurement has at least one")
    canaries = len(calibration.floor_ms)
    if any(len(r.before_ms) != canaries or len(r.after_ms) != canaries for r in rounds):
        raise ValueError(
            f"a round's canary readings do not fit the {canaries} canaries of the calibration"
        )
    observed = np.log(np.array([r.latency_ms for r in rounds], dtype=np.float64))
    floor, ends = _readings(rounds, calibration)
    reading = np.log(ends.mean(axis=1))
    inflation = observed - _true_log_latency(observed, reading, floor)
    has_reference = _reference_ms(rounds, calibration) is not None
    likeness = _likeness(observed, reading, has_reference=has_reference)
    trust = np.maximum(np.minimum(1.0, np.abs(inflation) / TRUSTED_INFLATION), likeness)
    removed = inflation * trust
    disturbed = np.array([r.disturbed is not None for r in rounds])
    contended = np.array([r.contenders > 0 for r in rounds])
    return Corrected(
        latency_ms=np.exp(observed - removed),
        inflation=inflation,
        removed=removed,
        likeness=likeness,
        quiet=np.asarray((np.abs(reading - floor) <= np.log1p(QUIET)).all(axis=1)),
        disturbed=disturbed,
        quarantined=disturbed
        | contended
        | np.asarray((np.log(ends) - floor > FAR).any(axis=(1, 2))),
    )


def counting(calibration: Calibration) -> Bools:
    """Which canaries count [K]: all, or beside a reference those that are clearly faster."""
    floor_ms = np.asarray(calibration.floor_ms, dtype=np.float64)
    if calibration.reference_ms is None:
        return np.ones(len(floor_ms), dtype=np.bool_)
    return np.asarray(floor_ms <= REFERENCE_SPACING * calibration.reference_ms)


def _readings(rounds: Sequence[Round], calibration: Calibration) -> tuple[Floats, Floats]:
    """Log floors [K] and readings [N, 2, K] in ms of the networks that show the inflation.

    These are the canaries, or with a reference the faster ones of them and the reference.
    """
    floor_ms = np.asarray(calibration.floor_ms, dtype=np.float64)
    ends = np.array([[r.before_ms, r.after_ms] for r in rounds], dtype=np.float64)
    reference_ms = _reference_ms(rounds, calibration)
    if reference_ms is None:
        return np.log(floor_ms), ends
    reference = np.array([r.reference_ms for r in rounds], dtype=np.float64)
    faster = counting(calibration)
    floor_ms = np.append(floor_ms[faster], reference_ms)
    return np.log(floor_ms), np.concatenate([ends[:, :, faster], reference[:, :, None]], axis=2)


def _reference_ms(rounds: Sequence[Round], calibration: Calibration) -> float | None:
    """Quiet latency of the reference, ms; None where it was not read in every round."""
    is_read = all(one.reference_ms is not None for one in rounds)
    return calibration.reference_ms if is_read else None


def _likeness(observed: Floats, reading: Floats, *, has_reference: bool) -> Floats:
    """Closeness [N] of a network to the reference, as in `Corrected.likeness`.

    Args:
        observed: Log latency of the network in ms [N].
        reading: Log latency of the canaries and, last, of the reference in ms [N, K].
    """
    if not has_reference:
        return np.zeros_like(observed)
    if reading.shape[1] == 1:
        return np.ones_like(observed)
    canary, reference = reading[:, -2], reading[:, -1]
    place = (observed - canary) / np.maximum(reference - canary, 1e-12)
    return np.asarray(np.clip(place, 0.0, 1.0))


def _true_log_latency(observed: Floats, reading: Floats, floor: Floats) -> Floats:
    """Log latency [N] without inflation, from `observed` [N], canaries' `reading` [N, K] and
    `floor` [K], all logs.
    """
    reading = np.maximum.accumulate(reading, axis=1)
    true = np.where(
        observed < reading[:, 0],
        observed - reading[:, 0] + floor[0],
        observed - reading[:, -1] + floor[-1],
    )
    for k in range(len(floor) - 1):
        low = reading[:, k]
        high = reading[:, k + 1]
        place = (observed - low) / np.maximum(high - low, 1e-12)
        true = np.where(
            (observed >= low) & (observed < high),
            floor[k] + place * (floor[k + 1] - floor[k]),
            true,
        )
    return np.asarray(true)
