"""The measurements that a predictor is trained on: checked, and with repeats merged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from latency_service.core.arrays import Floats, Numbers
from latency_service.spaces.slicing import SearchSpace
from latency_service.training.models.block_features import BlockLayout
from latency_service.training.models.transfer import KnownTarget

#: Fewest different architectures that can be cross-validated at all.
LEAST_ARCHITECTURES = 10
#: Noise that every measurement is taken to have, relative, beside what its own interval says.
COMMON_NOISE = 0.005
#: Standard deviation, relative, of a measurement at least: repeats whose intervals say nothing
#: count alike.
_LEAST_DEVIATION = 1e-5
#: Least spread of the latencies, relative, that there is something to learn from.
LEAST_SPREAD = 0.005


class TrainingError(ValueError):
    """No predictor can be trained on these measurements; the message says why and what to do."""


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """The measurements of one search space on one target. Widths occurring more than once are
    repeats.
    """

    space: SearchSpace
    #: Fingerprint of the target.
    fingerprint: str
    #: [N]
    measurement_ids: list[str]
    #: [N, G]
    widths: npt.NDArray[np.integer]
    #: [N]
    latency_ms: Floats
    #: half-width of the 95 % interval, relative [N]
    half_width: Floats
    #: Widths of each group that are worth using, ascending [G][...].
    lattice: list[list[int]]
    seed: int
    #: Measurements on other targets of the same space, including this target before its runtime
    #: changed.
    known: Sequence[KnownTarget] = ()

    @property
    def space_id(self) -> str:
        return self.space.id

    @property
    def names(self) -> list[str]:
        """Of the groups [G]."""
        return [group.name for group in self.space.groups]

    @property
    def full_widths(self) -> list[int]:
        return self.space.full_widths

    @property
    def minimum_widths(self) -> list[int]:
        return [group.minimum for group in self.space.groups]

    @property
    def lowest_widths(self) -> list[int]:
        """The narrowest architecture of the lattice [G]."""
        return [widths[0] for widths in self.lattice]

    def check_widths(self) -> None:
        """Raise `WidthsError` for the first vector that the space does not have."""
        for widths in self.widths.tolist():
            self.space.check_widths(widths)


@dataclass(frozen=True, kw_only=True)
class VectorSet:
    """Measurements of networks that are given as plain vectors of widths and choices, without a
    graph.
    """

    #: Name of what the vectors describe, in place of a space's id.
    space_id: str
    #: names of the columns [D]
    names: list[str]
    #: Layout of the columns as layers; None where only unstructured models apply.
    layout: BlockLayout | None
    #: Fingerprint of the target.
    fingerprint: str
    #: [N]
    measurement_ids: list[str]
    #: [N, D]
    widths: Floats
    #: [N]
    latency_ms: Floats
    #: half-width of the 95 % interval, relative [N]; infinite where it is not known
    half_width: Floats
    seed: int
    known: Sequence[KnownTarget] = ()

    @property
    def lattice(self) -> list[list[int]]:
        """None is known."""
        return [[] for _ in self.names]

    @property
    def full_widths(self) -> list[int]:
        """The highest value of each column, rounded up [D]."""
        return [int(value) for value in np.ceil(self.widths.max(0))]

    @property
    def minimum_widths(self) -> list[int]:
        """The lowest value of each column, rounded down [D]."""
        return [int(value) for value in np.floor(self.widths.min(0))]

    @property
    def lowest_widths(self) -> list[int]:
        return self.minimum_widths

    def check_widths(self) -> None:
        """Raise `TrainingError` for a value that is no number."""
        bad = np.argwhere(~np.isfinite(self.widths))
        if len(bad):
            row, column = bad[0].tolist()
            raise TrainingError(
                f"column {self.names[column]!r} of measurement {self.measurement_ids[row]} is "
                f"{self.widths[row, column]}: leave it out and train again"
            )


@dataclass(frozen=True, kw_only=True)
class Architectures:
    """Measured architectures, each once, in the order of their widths."""

    #: [N, G]
    widths: Numbers
    #: [N]
    latency_ms: Floats
    #: Weights of the architectures, with a mean of 1 [N].
    weights: Floats
    #: repeatability floor: median relative difference between measurements of the same widths, per
    #: cent
    repeat_difference: float | None


def merge(data: TrainingSet | VectorSet) -> Architectures:
    """Average repeats in log latency, each weighted by the inverse square of its interval.

    Raises:
        TrainingError: too few architectures, latencies that are not positive, or widths that change
            nothing.
        WidthsError: a width is out of its group's range.
    """
    _check(data)
    widths, index = np.unique(data.widths, axis=0, return_inverse=True)
    index = index.reshape(-1)
    logs = np.log(data.latency_ms)
    counts = np.bincount(index)
    known = np.isfinite(data.half_width)
    deviation = np.where(known, data.half_width, data.half_width[known].max(initial=0.0)) / 1.96
    each = 1 / np.maximum(deviation, _LEAST_DEVIATION) ** 2
    together = np.bincount(index, weights=each)
    latency = np.exp(np.bincount(index, weights=each * logs) / together)
    _check_spread(latency)
    precision = 1 / (COMMON_NOISE**2 + 1 / together)
    return Architectures(
        widths=widths,
        latency_ms=latency,
        weights=precision / precision.mean(),
        repeat_difference=_repeat_difference(
            [logs[index == k] for k in np.flatnonzero(counts > 1)]
        ),
    )


def _repeat_difference(repeats: list[Floats]) -> float | None:
    """Median over all pairs of repeats of their relative difference in per cent; `repeats` are log
    latencies.
    """
    differences = [
        100 * float(np.expm1(abs(first - second)))
        for logs in repeats
        for position, first in enumerate(logs)
        for second in logs[:position]
    ]
    return float(np.median(differences)) if differences else None


def _check(data: TrainingSet | VectorSet) -> None:
    count = len(data.latency_ms)
    if data.widths.shape != (count, len(data.names)) or len(data.measurement_ids) != count:
        raise TrainingError(
            f"{count} latencies, {len(data.measurement_ids)} ids, widths of shape "
            f"{data.widths.shape}"
        )
    data.check_widths()
    for measurement, latency in zip(data.measurement_ids, data.latency_ms, strict=True):
        if not (np.isfinite(latency) and latency > 0):
            raise TrainingError(
                f"measurement {measurement} says {latency} ms: leave it out and train again"
            )
    different = len({tuple(widths) for widths in data.widths.tolist()})
    if different < LEAST_ARCHITECTURES:
        raise TrainingError(
            f"{different} different architectures have been measured, training takes at least "
            f"{LEAST_ARCHITECTURES} "
            "(100 make a good predictor): measure more with "
            f"`latency-service campaigns create --space {data.space_id[:12]} --device NAME`"
        )


def _check_spread(latency_ms: Floats) -> None:
    lowest = float(latency_ms.min())
    highest = float(latency_ms.max())
    if highest < lowest * (1 + LEAST_SPREAD):
        raise TrainingError(
            f"all {len(latency_ms)} architectures took {lowest:.3g} ms: the widths that were "
            "sampled do not change the "
            "latency, so there is nothing to predict; check the minimum widths of the space's "
            "groups"
        )
