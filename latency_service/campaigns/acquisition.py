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
#: Minimum weight of a group, as a share of the mean elasticity: the model may be wrong about it.
LEAST_SHARE = 0.1
_TRIES = 30


def nearby(
    lattice_by_group: Sequence[Sequence[int]], centre: Sequence[float], count: int, seed: int
) -> list[list[int]]:
    """Up to `count` different width vectors [N][G] on the lattice, at most `STEPS` steps of it from
    `centre` [G].

    The lattice point nearest to the centre comes first. There are fewer than `count` only when the
    neighbourhood hardly holds more.
    """
    rng = np.random.default_rng(seed)
    choices = [np.asarray(widths) for widths in lattice_by_group]
    middle = np.array(
        [int(np.abs(c - width).argmin()) for c, width in zip(choices, centre, strict=True)]
    )
    last = np.array([len(c) - 1 for c in choices])
    found: dict[tuple[int, ...], None] = {_at(choices, middle): None}
    for _ in range(_TRIES):
        if len(found) >= count:
            break
        steps = rng.integers(-STEPS, STEPS + 1, (count, len(choices)))
        places = np.clip(middle + steps, 0, last)
        columns = [c[place] for c, place in zip(choices, places.T, strict=True)]
        found |= dict.fromkeys(tuple(row) for row in np.stack(columns, axis=1).tolist())
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

    The uncertainty of an architecture is the product of its distance to the nearest one `measured`
    [M, G] or chosen and its `doubt` [N], the relative half-width of its interval. Distances are
    taken between logarithms of widths, weighted by `elasticity` [G], the relative change of latency
    per relative change of width, so that groups without influence do not count. This is greedy
    farthest-point design (Gonzalez 1985); the variance of a kernel model grows with this distance.
    """
    scale = _scale(elasticity)
    points = np.log(candidates) * scale
    known = np.log(measured.reshape(-1, candidates.shape[1])) * scale
    distance = np.full(len(points), np.inf)
    for row in known:
        distance = np.minimum(distance, np.linalg.norm(points - row, axis=1))
    chosen: list[int] = []
    while len(chosen) < min(count, len(points)):
        best = _farthest(distance, doubt)
        if distance[best] <= 0:  # everything that is left was measured
            break
        chosen.append(best)
        distance = np.minimum(distance, np.linalg.norm(points - points[best], axis=1))
    return chosen


def _scale(elasticity: Floats) -> Floats:
    """Weight of each group [G] in the distance, never zero."""
    sizes = np.abs(elasticity)
    return np.asarray(np.maximum(sizes, LEAST_SHARE * max(float(sizes.mean()), 1e-12)))


def _farthest(distance: Floats, doubt: Floats) -> int:
    """Position of the greatest product of `distance` [N] and relative `doubt` [N]."""
    finite = np.where(np.isinf(distance), np.finfo(float).max / 2, distance)
    return int(np.argmax(finite * (doubt / doubt.max())))


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
