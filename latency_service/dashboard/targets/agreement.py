"""Two targets against each other: do they rank the architectures of a space alike? Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from pydantic import BaseModel, Field

from latency_service.core.arrays import Floats
from latency_service.dashboard.places import Place
from latency_service.dashboard.statistics import Interval, spearman_interval
from latency_service.measurements.ranks import ranks_of, spearman
from latency_service.predictors.serving import Loaded

#: Fewest shared measurements that are compared; below them predictions are.
LEAST_SHARED = 8
#: Most architectures in the list of those that the targets disagree about.
MOST_LISTED = 10

Widths = tuple[int, ...]


class Compared(BaseModel):
    """One architecture on both targets. Rank 1 is the fastest."""

    widths: list[int]
    first_ms: float
    second_ms: float
    first_rank: float
    second_rank: float

    @property
    def moved(self) -> float:
        """By how many ranks the targets differ."""
        return self.second_rank - self.first_rank


class Agreement(BaseModel):
    """What two targets say of the same architectures."""

    space_id: str
    space: str
    first: Place
    second: Place
    kind: Literal["measured", "predicted"]
    correlation: float | None = Field(description="Spearman's; None of fewer than three")
    interval: Interval | None = Field(description="95 % interval of the correlation")
    ratio: float | None = Field(description="median latency on the second by that on the first")
    compared: list[Compared] = Field(description="fastest on the first first")
    disagreeing: list[Compared] = Field(description="those whose ranks differ most")


def agreement_of(
    space: tuple[str, str],
    places: tuple[Place, Place],
    latencies: Sequence[tuple[Widths, float, float]],
    kind: Literal["measured", "predicted"],
) -> Agreement:
    """Compare.

    Args:
        space: its id and name.
        latencies: widths, and ms on the first and on the second target.
    """
    compared = _compared(latencies)
    first = np.array([pair.first_ms for pair in compared])
    second = np.array([pair.second_ms for pair in compared])
    correlation = spearman(first, second) if len(compared) > 2 else None
    return Agreement(
        space_id=space[0],
        space=space[1],
        first=places[0],
        second=places[1],
        kind=kind,
        correlation=correlation,
        interval=None if correlation is None else spearman_interval(correlation, len(compared)),
        ratio=float(np.median(second / first)) if compared else None,
        compared=compared,
        disagreeing=sorted(compared, key=lambda pair: -abs(pair.moved))[:MOST_LISTED],
    )


def shared(
    first: Mapping[Widths, float], second: Mapping[Widths, float]
) -> list[tuple[Widths, float, float]]:
    """Architectures that were measured on both."""
    return [(widths, ms, second[widths]) for widths, ms in first.items() if widths in second]


def predicted_on_both(
    widths: Sequence[Widths], first: Loaded, second: Loaded
) -> list[tuple[Widths, float, float]]:
    """The same architectures by the predictors of both."""
    if not widths:
        return []
    rows = np.asarray(widths, np.float32)
    columns: list[Floats] = [
        np.asarray(loaded.predict(rows, gradient=False)[0], np.float64)
        for loaded in (first, second)
    ]
    return [(row, float(a), float(b)) for row, a, b in zip(widths, *columns, strict=True)]


def _compared(latencies: Sequence[tuple[Widths, float, float]]) -> list[Compared]:
    if not latencies:
        return []
    first_ranks = ranks_of(np.array([row[1] for row in latencies]))
    second_ranks = ranks_of(np.array([row[2] for row in latencies]))
    rows = [
        Compared(
            widths=list(widths),
            first_ms=first_ms,
            second_ms=second_ms,
            first_rank=float(first_rank),
            second_rank=float(second_rank),
        )
        for (widths, first_ms, second_ms), first_rank, second_rank in zip(
            latencies, first_ranks, second_ranks, strict=True
        )
    ]
    return sorted(rows, key=lambda row: row.first_ms)
