"""A network's latency as a share of another's that was read in the same rounds. Pure; numpy only.

Interference slows both at once, so their ratio repeats better than either latency.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from latency_service.measurements.schemas import Round
from latency_service.measurements.statistics import PROCESS_HALF_WIDTH, USED_LEAST

_RESAMPLES = 1000


class Share(BaseModel):
    """Latency divided by the reference's."""

    model_config = ConfigDict(frozen=True)

    share: float
    lower: float = Field(description="of the 95 % interval")
    upper: float


def share_of_reference(rounds: Sequence[Round]) -> Share | None:
    """The median over the rounds of latency by the mean of the reference's two readings around it;
    None without a reference. Worthless rounds are left out where enough others are there.

    The interval is a bootstrap over rounds, widened by what processes differ by. Deterministic.
    """
    usable = [one for one in rounds if one.reference_ms is not None]
    if not usable:
        return None
    kept = [one for one in usable if one.disturbed is None]
    chosen = kept if len(kept) >= USED_LEAST else usable
    ratios = np.array([one.latency_ms / np.mean(one.reference_ms or ()) for one in chosen])
    log = np.log(ratios)
    centre = float(np.median(log))
    drawn = np.random.default_rng(len(log)).integers(0, len(log), size=(_RESAMPLES, len(log)))
    low, high = np.percentile(np.median(log[drawn], axis=1), [2.5, 97.5])
    below = sqrt(max(0.0, centre - low) ** 2 + PROCESS_HALF_WIDTH**2)
    above = sqrt(max(0.0, high - centre) ** 2 + PROCESS_HALF_WIDTH**2)
    return Share(
        share=float(np.exp(centre)),
        lower=float(np.exp(centre - below)),
        upper=float(np.exp(centre + above)),
    )
