"""A network's latency as a share of a reference's that was read in the same rounds. Pure.

Both are what they are when nothing disturbs them. Interference does not leave the ratio of single
rounds alone: it slows a network that misses its caches more than one that fits. Three networks with
prunings of 40 % of their latencies, on a quiet machine and beside a load, six processes each,
against plain alternation of the two files: the median error was .2 to 1.4 %, and that of the
median ratio of the rounds .6 to 7 %.
"""

from __future__ import annotations

from math import sqrt

from pydantic import BaseModel, ConfigDict, Field

from latency_service.measurements.schemas import Summary

#: Relative half-width of a reference's quiet latency as one process finds it.
REFERENCE_HALF_WIDTH = 0.015


class Share(BaseModel):
    """Latency divided by the reference's."""

    model_config = ConfigDict(frozen=True)

    share: float
    lower: float = Field(description="of the 95 % interval")
    upper: float


def share_of_reference(summary: Summary) -> Share | None:
    """The share of the reference's quiet latency that a measurement is; None without one."""
    if summary.reference_ms is None:
        return None
    share = summary.latency_ms / summary.reference_ms
    below = sqrt((1 - summary.lower_ms / summary.latency_ms) ** 2 + REFERENCE_HALF_WIDTH**2)
    above = sqrt((summary.upper_ms / summary.latency_ms - 1) ** 2 + REFERENCE_HALF_WIDTH**2)
    return Share(share=share, lower=share * (1 - below), upper=share * (1 + above))
