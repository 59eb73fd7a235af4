"""Which architectures to measure next: near a point, or where the model is most uncertain.

Pure functions; numpy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np
import numpy.typing as npt

from latency_service.core.arrays import Floats

#: Maximum distance of a width from the centre, lattice steps.
STEPS = 2
#: Least weight of a group, as a share of the mean elasticity: the model may be wrong about it.
LEAST_SHARE = 0.1
_TRIES = 30


def nearby(
    lattice_by_group: Sequence[Sequence[int]], centre: Sequence[float], count: int, seed: int
) -> list[list[int]]:
    """Up to `count` different width vectors [N][G] on the lattice, at most `STEPS` steps of it from
    `centre` [G].

    The lattice point next to the centre comes first. Fewer come back only when there are hardly
    more.
    """
    rng = np.random.default_rng(seed)
    choices = [np.asarray(widths) for widths in lattice_by_group]
    middle = np.array(
        [int(np.abs(c - width).argmin()) for c, width in zip(choices, centre, strict=True)]
    )
    last = np.array([len(c) - 1 for c in choices])
    found: dict[tuple[int, ...], None] = {_at(choices, middle): None}
    for _ in range(_TRIES * count):
        if len(found) >= count:
            break
        steps = rng.integers(-STEPS, STEPS + 1, len(choices))
        found.setdefault(_at(choices, np.clip(middle + steps, 0, last)), None)
    return [list(widths) for widths in found][:count]


def choose(
    candidates: npt.NDArray[np.integer],
    measured: npt.NDArray[np.integer],
    count: int,
    *,
    elasticity: Floats,
    doubt: Floats,
) -> list[int]:
    """Positions of `count` of the `candidates` [N, G]: each the most uncertain one, given those
    before it.

    The uncertainty of an architecture is its distance to the nearest one that is `measured` [M, G]
    (or chosen), in logarithms of widths weighed by `elasticity` [G] (per cent of latency for each
    per cent of width: groups that do not matter do not count), times `doubt` [N] (the half-width of
    its interval, relative). Greedy farthest-point design (Gonzalez 1985); for a kernel model this
    distance is what its variance grows with.
    """
    share = np.maximum(
        np.abs(elasticity), LEAST_SHARE * max(float(np.abs(elasticity).mean()), 1e-12)
    )
    points = np.log(candidates) * share
    known = np.log(measured.reshape(-1, candidates.shape[1])) * share
    distance = np.full(len(points), np.inf)
    for row in known:
        distance = np.minimum(distance, np.linalg.norm(points - row, axis=1))
    chosen: list[int] = []
    while len(chosen) < min(count, len(points)):
        best = int(
            np.argmax(
                np.where(np.isinf(distance), np.finfo(float).max / 2, distance)
                * (doubt / doubt.max())
            )
        )
        if distance[best] <= 0:  # everything that is left was measured
            break
        chosen.append(best)
        distance = np.minimum(distance, np.linalg.norm(points - points[best], axis=1))
    return chosen


def error_bound(mape: float, count: int) -> float:
    """Upper confidence bound of the mean error on unseen architectures, per cent: one-sided, 95 %.

    `mape` is the mean of `count` held-out errors; their standard deviation is taken to be their
    mean, as it is for exponentially distributed ones (absolute errors of a good model spread less).
    """
    return mape * (1 + 1.645 / sqrt(max(count, 1)))


def _at(
    choices: Sequence[npt.NDArray[np.integer]], places: npt.NDArray[np.integer]
) -> tuple[int, ...]:
    return tuple(int(c[place]) for c, place in zip(choices, places, strict=True))
