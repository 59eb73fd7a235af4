"""A network's latency as a share of a reference's that was read in the same rounds. Pure.

There are two ways to it, and neither is right alone. The quotient of the two quiet latencies
follows the hour in which the reference's was found. The quotient of what one process reads of both
is of one moment, but interference slows a network that misses its caches more than one that fits.
Files of four networks at 40 to 90 % of their latencies, 30 jobs on a quiet machine and beside a
load, against plain alternation with the dense file right after the job, error in per cent:

=========================================  =====  ==================  ==============  =====
share                                      bias   standard deviation  median, abs.    worst
=========================================  =====  ==================  ==============  =====
quotient of quiet latencies                 .25   .74                 .65             1.6
median ratio of the rounds                -1.26   1.54                .63             5.2
quotient of 5th percentiles               -.56    .63                 .51             2.2
geometric mean of the first and the last  -.16    .52                 .34             1.8
=========================================  =====  ==================  ==============  =====
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from latency_service.measurements.schemas import Round, Summary
from latency_service.measurements.statistics import USED_LEAST

#: Relative half-width of a share by one process.
SHARE_HALF_WIDTH = 0.01
_PERCENTILE = 5


class Share(BaseModel):
    """Latency divided by the reference's."""

    model_config = ConfigDict(frozen=True)

    share: float
    lower: float = Field(description="of the 95 % interval")
    upper: float


def share_of_reference(summary: Summary, rounds: Sequence[Round]) -> Share | None:
    """The share of the reference's latency that a measurement is, both ways together; None without
    a reference.
    """
    in_rounds = share_in_rounds(rounds)
    if summary.reference_ms is None or in_rounds is None:
        return None
    share = sqrt(in_rounds * summary.latency_ms / summary.reference_ms)
    below = sqrt((1 - summary.lower_ms / summary.latency_ms) ** 2 + SHARE_HALF_WIDTH**2)
    above = sqrt((summary.upper_ms / summary.latency_ms - 1) ** 2 + SHARE_HALF_WIDTH**2)
    return Share(share=share, lower=share * (1 - below), upper=share * (1 + above))


def share_in_rounds(rounds: Sequence[Round]) -> float | None:
    """Quotient of the 5th percentiles of the rounds' latencies and of the reference's readings in
    them; None without a reference. Worthless rounds are left out where enough others are there.
    """
    read = [one for one in rounds if one.reference_ms is not None]
    if not read:
        return None
    kept = [one for one in read if one.disturbed is None]
    chosen = kept if len(kept) >= USED_LEAST else read
    latency_ms = np.percentile([one.latency_ms for one in chosen], _PERCENTILE)
    reference_ms = np.percentile([one.reference_ms or () for one in chosen], _PERCENTILE)
    return float(latency_ms / reference_ms)
