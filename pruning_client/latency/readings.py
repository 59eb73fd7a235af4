"""Readings of files on one target, and what they say of a budget together. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist, geometric_mean, median
from typing import Literal, NamedTuple

from latency_service.measurements.statistics import reference_scale
from pruning_client.latency.budget import Budget
from pruning_client.latency.predictor import Widths

#: structure: pruned but not yet fine-tuned, to settle the widths.
Stage = Literal["dense", "structure", "delivered"]

#: Standard deviations between the centre and either end of a 95 % interval.
DEVIATIONS = 1.96
#: Lowest standard deviation of a reading, relative: fresh processes differ by as much.
LOWEST_DEVIATION = 0.0015
#: Standard deviation of the reference's quiet latency, relative, which no reading of the dense
#: network shows: all of them are corrected by it.
REFERENCE_DEVIATION = 0.002


class FileKey(NamedTuple):
    """One file of a job: a structure and the fine-tuned file of its widths are two files."""

    stage: Stage
    widths: Widths


@dataclass(frozen=True, kw_only=True)
class FileMeasurement:
    """Latency of one file on one target, by one reading or several. In ms, 95 % interval."""

    latency_ms: float
    lower_ms: float
    upper_ms: float
    verdict: str
    measurement_id: str
    target_id: str
    model_sha256: str
    #: Quiet latency of the reference network that the reading was corrected by.
    reference_ms: float | None = None
    #: Relative change of the latency for a relative change of `reference_ms`.
    reference_elasticity: float | None = None
    #: Share of the reference's latency in the reading's own rounds (`shares.share_in_rounds`).
    share: float | None = None
    #: Time that the measuring took, without waiting for the device, seconds.
    seconds: float = 0.0
    #: Number of readings.
    taken: int = 1

    @property
    def deviation(self) -> float:
        """Standard deviation of the latency's logarithm."""
        width = math.log(self.upper_ms / self.lower_ms) / (2 * DEVIATIONS)
        return max(width, LOWEST_DEVIATION / math.sqrt(self.taken))

    def at(self, reference_ms: float | None) -> FileMeasurement:
        """The measurement when the reference's quiet latency turns out to be another."""
        if reference_ms is None:
            return self
        scaled = self._scaled(reference_scale(self, reference_ms))
        return replace(scaled, reference_ms=reference_ms)

    def beside(self, reference_ms: float) -> FileMeasurement:
        """The measurement by both ways to a share of the reference's latency; see
        `latency_service.measurements.shares`.
        """
        if self.share is None:
            return self
        return self._scaled(math.sqrt(self.share * reference_ms / self.latency_ms))

    def _scaled(self, factor: float) -> FileMeasurement:
        return replace(
            self,
            latency_ms=self.latency_ms * factor,
            lower_ms=self.lower_ms * factor,
            upper_ms=self.upper_ms * factor,
        )


#: One file on every target of a job, in the order of the targets.
FileMeasurements = tuple[FileMeasurement, ...]


def pooled(readings: Sequence[FileMeasurement]) -> FileMeasurement:
    """Readings of one file as one: the geometric mean, weighted by the inverse variances.

    The interval is at least as wide as the readings' scatter shows (Birge ratio).
    """
    if len(readings) == 1:
        return readings[0]
    weights = [1 / reading.deviation**2 for reading in readings]
    logs = [math.log(reading.latency_ms) for reading in readings]
    mean = sum(w * x for w, x in zip(weights, logs, strict=True)) / sum(weights)
    square = sum(w * (x - mean) ** 2 for w, x in zip(weights, logs, strict=True))
    scatter = max(1.0, square / (len(readings) - 1))
    half_width = DEVIATIONS * math.sqrt(scatter / sum(weights))
    return replace(
        readings[-1],
        latency_ms=math.exp(mean),
        lower_ms=math.exp(mean - half_width),
        upper_ms=math.exp(mean + half_width),
        verdict="ok" if any(r.verdict == "ok" for r in readings) else "unstable",
        seconds=sum(reading.seconds for reading in readings),
        taken=sum(reading.taken for reading in readings),
    )


class Excess(NamedTuple):
    """Logarithm of a file's latency divided by the budget, and its standard deviation."""

    mean: float
    deviation: float

    @property
    def probability(self) -> float:
        """Probability that the file keeps the budget."""
        return NormalDist(self.mean, self.deviation).cdf(0.0)


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All readings of one job on one target; `added` returns a new one.

    Latencies are those at the newest quiet latency of the reference network: readings that were
    made in different minutes compare.
    """

    budget: Budget
    #: Width vector [G] of the dense network.
    full: Widths
    readings: tuple[tuple[FileKey, FileMeasurement], ...] = ()
    #: Whether the reference is the dense network: not where a wider one is pruned, nor where the
    #: dense file has layers in float that the reference has in int8.
    dense_is_reference: bool = True

    @classmethod
    def of_dense(
        cls,
        budget: Budget,
        full: Widths,
        readings: Iterable[FileMeasurement],
        *,
        dense_is_reference: bool = True,
    ) -> Evidence:
        """The evidence when only the dense network has been measured."""
        key = FileKey("dense", full)
        return cls(
            budget=budget,
            full=full,
            readings=tuple((key, one) for one in readings),
            dense_is_reference=dense_is_reference,
        )

    def added(self, key: FileKey, reading: FileMeasurement) -> Evidence:
        """The evidence with one more reading."""
        return replace(self, readings=(*self.readings, (key, reading)))

    def of(self, key: FileKey) -> FileMeasurement:
        """All readings of a file as one.

        Raises:
            KeyError: the file has not been measured.
        """
        newest_ms = self._reference_ms
        found = [reading.at(newest_ms) for known, reading in self.readings if known == key]
        if not found:
            raise KeyError(key)
        if key.stage != "dense" and (dense_share := self._dense_share) is not None:
            reference_ms = self.dense.latency_ms / dense_share
            found = [reading.beside(reference_ms) for reading in found]
        return pooled(found)

    @property
    def dense_key(self) -> FileKey:
        return FileKey("dense", self.full)

    @property
    def dense(self) -> FileMeasurement:
        """The dense network."""
        return self.of(self.dense_key)

    @property
    def budget_ms(self) -> float:
        """The budget in ms, by what is known of the dense network now."""
        return self.budget.in_ms(self.dense.latency_ms)

    @property
    def budget_deviation(self) -> float:
        """Standard deviation of the budget's logarithm: a share is as uncertain as the dense
        latency.
        """
        if self.budget.absolute_ms is not None:
            return 0.0
        return math.hypot(self.dense.deviation, self.reference_deviation)

    @property
    def reference_deviation(self) -> float:
        """The part of `budget_deviation` that no further reading makes smaller."""
        is_share = self.budget.absolute_ms is None
        return REFERENCE_DEVIATION if is_share and self._reference_ms is not None else 0.0

    def excess(self, key: FileKey) -> Excess:
        """How far a file is above the budget."""
        measured = self.of(key)
        mean = math.log(measured.latency_ms / self.budget_ms)
        return Excess(mean, math.hypot(measured.deviation, self.budget_deviation))

    @property
    def noise(self) -> float:
        """Typical standard deviation of one reading of a file, relative.

        The median by the readings' own intervals, of the pruned files or of the dense network,
        whichever is lower: one kind may have been measured in a disturbed minute, or be a network
        that its memory slows. It is multiplied by the factor by which the dense network's readings
        scatter more than their intervals say.
        """
        pruned = [one.deviation for key, one in self.readings if key.stage != "dense"]
        dense = [one.deviation for key, one in self.readings if key.stage == "dense"]
        typical = min(median(kind) for kind in (pruned, dense) if kind)
        expected = 1 / math.sqrt(sum(1 / deviation**2 for deviation in dense))
        return typical * self.dense.deviation / expected

    @property
    def _reference_ms(self) -> float | None:
        """The newest value; None where there is none."""
        values = [reading.reference_ms for _, reading in self.readings]
        return next((value for value in reversed(values) if value is not None), None)

    @property
    def _dense_share(self) -> float | None:
        """The dense network's own share of the reference's latency; None where it is not known."""
        if self.dense_is_reference:
            return 1.0
        own = [one.share for key, one in self.readings if key == self.dense_key]
        known = [share for share in own if share is not None]
        return geometric_mean(known) if known else None
