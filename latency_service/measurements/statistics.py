"""From rounds to a number that repeats: canary correction, interval, verdict, comparison. Pure;
numpy only.

How contended rounds are used was decided on recorded data of a 2-core virtual machine: 17 quiet
processes, 7 beside random busy processes, 7 beside a process that stole half of the core 80 % of
the time; 7 networks of .13-2 ms, 40 rounds each. Median / 90th percentile of the relative
difference between two processes, per cent:

=============================================  ==========  ==========  ===========
statistic                                      quiet       busy        stolen
=============================================  ==========  ==========  ===========
median of rounds                               .39 / 11.6  .41 / 2.9   24 / 82
median of corrected rounds                     .48 / 1.5   .68 / 2.0   1.7 / 4.0
robust regression on the inflation             .5 / 2.3    .6 / 3.3    24 / 76
least inflated third, corrected                .34 / 1.0   .39 / 1.3   1.5 / 4.0
least inflated third, small inflation doubted  .17 / .60   .24 / .85   1.5 / 4.2
=============================================  ==========  ==========  ===========

Where too few rounds are left that are not quarantined, the contended ones are used all the same,
corrected: on a device that is never quiet they are all there is, and they repeat.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from math import ceil, erf, sqrt
from typing import Literal
from typing import Protocol as Interface

import numpy as np
import numpy.typing as npt

from latency_service.core.arrays import Floats
from latency_service.measurements.correction import QUIET, Corrected, correct
from latency_service.measurements.schemas import Calibration, Protocol, Round, Summary

#: Share of rounds, the least inflated ones, that the statistic is made of, and how many at least.
USED_SHARE = 1 / 3
USED_LEAST = 5
#: Relative half-width of the difference between fresh processes (memory layout), which the rounds
#: of one do not show.
PROCESS_HALF_WIDTH = 0.003
#: Relative half-width for each unit of log-inflation that was divided out, and that was left in.
CORRECTED_DOUBT = 0.05
LEFT_DOUBT = 0.25
#: The same for inflation that is large: networks unlike the canaries are slowed otherwise than
#: they. Linear between these two log-inflations divided out, from nothing to the half-width. Of
#: eleven measurements at 13-23 % inflation whose truth was known some came out 0-2 % high, the
#: others (odd numbers of channels) 6-7 %.
UNLIKE_FROM = 0.05
UNLIKE_TO = 0.15
UNLIKE_DOUBT = 0.06
#: Widest interval, relative half-width, of what is still worth training on, weighted by it.
TRAINABLE_HALF_WIDTH = 0.1
_RESAMPLES = 400
#: Relative step of the reference's quiet latency for the elasticity.
_REFERENCE_STEP = 0.005


class ReferenceLatency(Interface):
    """A latency, and the reference's quiet latency that it was corrected by; see `Summary`."""

    @property
    def latency_ms(self) -> float: ...
    @property
    def reference_ms(self) -> float | None: ...
    @property
    def reference_elasticity(self) -> float | None: ...


def summarise(rounds: Sequence[Round], calibration: Calibration, protocol: Protocol) -> Summary:
    """The statistic of one measurement with its 95 % interval and verdict.

    The median of the least inflated third of the rounds that are not quarantined, corrected; the
    interval is a bootstrap over rounds (selection included), widened by what no bootstrap sees:
    the difference between processes and the doubt in the correction. Deterministic.

    Raises:
        ValueError: no rounds, or readings that do not fit the calibration.
    """
    corrected = correct(rounds, calibration)
    order, worthless = _usable(corrected)
    log_ms = np.log(corrected.latency_ms)[order]
    inflation = corrected.inflation[order]
    used = _used(len(order))
    centre = float(np.median(log_ms[:used]))
    medians = np.median(log_ms[_resamples(len(order))], axis=1)
    lower, upper = np.percentile(medians, [2.5, 97.5])
    doubt = _correction_doubt(
        inflation[:used], corrected.removed[order][:used], corrected.likeness[order][:used]
    )
    extra = PROCESS_HALF_WIDTH**2 + doubt**2
    below = sqrt(max(0.0, centre - lower) ** 2 + extra)
    above = sqrt(max(0.0, upper - centre) ** 2 + extra)
    half_width = max(below, above)
    untrusted = _doubt(rounds, worthless, inflation[:used], protocol)
    reason = untrusted or _imprecise(half_width, inflation[:used], protocol)
    return Summary(
        latency_ms=float(np.exp(centre)),
        lower_ms=float(np.exp(centre - below)),
        upper_ms=float(np.exp(centre + above)),
        naive_ms=float(np.median([r.latency_ms for r in rounds])),
        reference_ms=calibration.reference_ms,
        reference_elasticity=_elasticity(rounds, calibration, order[:used], centre),
        verdict="unstable" if reason else "ok",
        reason=reason,
        trainable=untrusted is None and (reason is None or half_width <= TRAINABLE_HALF_WIDTH),
        quiet_share=float(corrected.quiet.mean()),
        quarantined_share=float(corrected.quarantined.mean()),
        rounds_used=used,
    )


def compare(
    a: Sequence[Round], b: Sequence[Round], calibration: Calibration, *, level: float = 0.05
) -> Literal["faster", "slower", "cannot tell"]:
    """Whether the measurement `a` is faster or slower than `b`, both on the target that
    `calibration` belongs to.

    Two-sided Mann-Whitney test (normal approximation with ties, Mann & Whitney 1947) on the
    corrected rounds that each statistic is made of; differences within what processes differ by
    cannot be told.
    """
    x = _kept(a, calibration)
    y = _kept(b, calibration)
    difference = float(np.median(x) - np.median(y))
    if abs(difference) <= 2 * PROCESS_HALF_WIDTH or mann_whitney(x, y) >= level:
        return "cannot tell"
    return "faster" if difference < 0 else "slower"


def mann_whitney(x: Floats, y: Floats) -> float:
    """Two-sided p-value of the Mann-Whitney test for samples `x` [N] and `y` [M]; 1 when all values
    are equal.
    """
    n = len(x)
    m = len(y)
    values, counts = np.unique(np.concatenate([x, y]), return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    u = float(ranks[np.searchsorted(values, x)].sum()) - n * (n + 1) / 2
    total = n + m
    ties = float((counts.astype(np.float64) ** 3 - counts).sum())
    variance = n * m / 12 * ((total + 1) - ties / (total * (total - 1)))
    if variance <= 0:
        return 1.0
    z = max(0.0, abs(u - n * m / 2) - 0.5) / sqrt(variance)
    return 1 - erf(z / sqrt(2))


def repeat_difference(pairs: Sequence[tuple[float, float]]) -> float:
    """Median relative difference between repeated measurements, per cent: the repeatability floor.

    Raises:
        ValueError: no pairs, or a latency that is not above 0.
    """
    table = np.asarray(pairs, dtype=np.float64).reshape(-1, 2)
    if not len(table) or not (table > 0).all():
        raise ValueError("the repeat difference needs at least one pair of latencies above 0")
    return float(np.median(np.abs(table[:, 0] - table[:, 1]) / table.mean(axis=1))) * 100


def _elasticity(
    rounds: Sequence[Round], calibration: Calibration, used: npt.NDArray[np.intp], centre: float
) -> float | None:
    """Change of the log latency for a change of the log of the reference's quiet latency."""
    if calibration.reference_ms is None:
        return None
    other = calibration.model_copy(
        update={"reference_ms": calibration.reference_ms * (1 + _REFERENCE_STEP)}
    )
    corrected = correct([rounds[index] for index in used], other)
    moved = float(np.median(np.log(corrected.latency_ms))) - centre
    return moved / float(np.log1p(_REFERENCE_STEP))


def _correction_doubt(inflation: Floats, removed: Floats, likeness: Floats) -> float:
    """Relative half-width that stems from inflation divided out, and from inflation left in.

    Args:
        inflation, removed, likeness: Those of the rounds used [N]; see `Corrected`.
    """
    left = float(np.median(np.abs(inflation - removed)))
    divided = float(np.median(np.abs(removed)))
    unlike = float(np.interp(divided, [UNLIKE_FROM, UNLIKE_TO], [0.0, UNLIKE_DOUBT]))
    unlike *= 1 - float(np.median(likeness))
    return CORRECTED_DOUBT * divided + unlike + LEFT_DOUBT * left


def at_one_reference(summaries: Sequence[ReferenceLatency]) -> Floats:
    """Latencies [N] of one search space on one target, at the reference's newest quiet latency.

    The quiet latency becomes better known from process to process, and latencies that were
    corrected by an older value follow by their elasticity. Those without a reference stay as they
    are.

    Args:
        summaries: of the measurements [N], oldest first.
    """
    known = [one.reference_ms for one in summaries if one.reference_ms is not None]
    return np.array(
        [
            one.latency_ms * reference_scale(one, known[-1]) if known else one.latency_ms
            for one in summaries
        ]
    )


def reference_scale(summary: ReferenceLatency, newest_ms: float) -> float:
    """Factor of a latency when the reference's quiet latency turns out to be `newest_ms`."""
    if summary.reference_ms is None or summary.reference_elasticity is None:
        return 1.0
    return float((newest_ms / summary.reference_ms) ** summary.reference_elasticity)


def _usable(corrected: Corrected) -> tuple[npt.NDArray[np.intp], bool]:
    """Rounds to choose from, the least inflated first, and whether only worthless ones are left.

    Those that are not quarantined; where they are too few those that are not disturbed; else all.
    """
    rounds = len(corrected.latency_ms)
    enough = min(USED_LEAST, rounds)
    choices = (~corrected.quarantined, ~corrected.disturbed, np.ones(rounds, dtype=np.bool_))
    usable = next(choice for choice in choices if int(choice.sum()) >= enough)
    order = np.flatnonzero(usable)[np.argsort(np.abs(corrected.inflation[usable]), kind="stable")]
    return order, int((~corrected.disturbed).sum()) < enough


def _used(rounds: int) -> int:
    return min(rounds, max(USED_LEAST, ceil(rounds * USED_SHARE)))


@lru_cache(maxsize=512)
def _resamples(rounds: int) -> npt.NDArray[np.intp]:
    """Ranks [B, used] that the least inflated third of each bootstrap sample has among `rounds`
    sorted rounds.
    """
    drawn = np.random.default_rng(rounds).integers(0, rounds, size=(_RESAMPLES, rounds))
    return np.sort(drawn, axis=1)[:, : _used(rounds)].astype(np.intp)


def _kept(rounds: Sequence[Round], calibration: Calibration) -> Floats:
    corrected = correct(rounds, calibration)
    order, _ = _usable(corrected)
    return np.asarray(np.log(corrected.latency_ms[order[: _used(len(order))]]))


def _doubt(
    rounds: Sequence[Round], worthless: bool, inflation: Floats, protocol: Protocol
) -> str | None:
    """Why neither a measurement nor its interval can be trusted; None when they can."""
    typical = float(np.median(inflation))
    if worthless:
        ((cause, _),) = Counter(one.disturbed for one in rounds if one.disturbed).most_common(1)
        return (
            f"almost every round is worthless, mostly since {cause}: stop what else runs on this "
            "device, or lift what limits it (`latency-service doctor` says how)"
        )
    if typical < -QUIET:
        return f"canaries ran {-typical:.0%} faster than their calibration: the machine has changed"
    if len(rounds) < protocol.min_rounds:
        return f"{len(rounds)} rounds measured, {protocol.min_rounds} asked for"
    return None


def _imprecise(half_width: float, inflation: Floats, protocol: Protocol) -> str | None:
    """Why a measurement is less precise than requested; None when it is not."""
    if half_width <= protocol.half_width:
        return None
    typical = float(np.median(inflation))
    cause = (
        f", canaries slowed by {np.expm1(typical):.0%} at their quietest" if typical > QUIET else ""
    )
    return f"interval is ±{half_width:.1%}, ±{protocol.half_width:.1%} asked for{cause}"
