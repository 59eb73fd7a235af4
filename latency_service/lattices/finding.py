"""From measured sweeps to a lattice: which widths are dominated. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp

import numpy as np

from latency_service.lattices.schemas import PERIOD, KindLattice, Lattice, LatticePoint

#: A wider width must be faster by this share before a width counts as dominated: below it the two
#: are alike.
MARGIN = 0.02
#: Coarsest block size searched for.
MAX_STEP = 2 * PERIOD
#: Share of the widths outside a block size's multiples that must be dominated: the rest is left to
#: noise.
AGREEMENT = 0.8


def find_lattice(points: Mapping[str, Sequence[LatticePoint]]) -> Lattice:
    """The lattice that the sweeps `points` (by kind of layer) show.

    A width is dominated when a wider one of the same sweep is faster by more than `MARGIN`,
    whatever the truth within the two intervals is. The `step` is the coarsest power of two outside
    whose multiples nearly every one of the widest widths is dominated.

    Raises:
        ValueError: a sweep is empty.
    """
    return Lattice(kinds=[_kind(kind, sweep) for kind, sweep in sorted(points.items())])


def mark(sweep: Sequence[LatticePoint]) -> list[LatticePoint]:
    """The sweep by ascending width, repeats of a width combined, `dominated` set."""
    repeats: dict[int, list[LatticePoint]] = {}
    for point in sweep:
        repeats.setdefault(point.width, []).append(point)
    ordered = [_combined(repeats[width]) for width in sorted(repeats)]
    return [
        point.model_copy(
            update={"dominated": any(_beats(wider, point) for wider in ordered[i + 1 :])}
        )
        for i, point in enumerate(ordered)
    ]


def unclear(marked: Sequence[LatticePoint]) -> dict[int, int]:
    """Widths that noise leaves undecided, each with the fastest wider width that may dominate it.

    `marked` is as `mark` returns it.
    """
    found = {}
    for i, point in enumerate(marked):
        rivals = [wider for wider in marked[i + 1 :] if _may_beat(wider, point)]
        if rivals and not point.dominated:
            found[point.width] = min(rivals, key=lambda rival: rival.latency_ms).width
    return found


def _kind(kind: str, sweep: Sequence[LatticePoint]) -> KindLattice:
    if not sweep:
        raise ValueError(f"the sweep of {kind!r} holds no measurement")
    marked = mark(sweep)
    return KindLattice(kind=kind, step=_step(marked), points=marked)


def _combined(repeats: Sequence[LatticePoint]) -> LatticePoint:
    """Repeats of one width as one point: means of log latency, weighted by the inverse squares of
    the intervals.
    """
    if len(repeats) == 1:
        return repeats[0]
    half = np.log([point.upper_ms / point.lower_ms for point in repeats]) / 2
    weight = 1 / np.maximum(half, 1e-6) ** 2
    centre = float(weight @ np.log([point.latency_ms for point in repeats]) / weight.sum())
    left = float(weight.sum() ** -0.5)
    return repeats[0].model_copy(
        update={
            "latency_ms": exp(centre),
            "lower_ms": exp(centre - left),
            "upper_ms": exp(centre + left),
        }
    )


def _beats(wider: LatticePoint, point: LatticePoint) -> bool:
    return wider.upper_ms < point.lower_ms * (1 - MARGIN)


def _may_beat(wider: LatticePoint, point: LatticePoint) -> bool:
    return wider.lower_ms < point.upper_ms * (1 - MARGIN)


def _step(marked: Sequence[LatticePoint]) -> int:
    """Double the block size while the widths that would be lost by it are dominated anyway.

    Only the widest widths are looked at, since the step is for what is wider still. Those above the
    last multiple of a block size lack wider neighbours that could dominate them: they say nothing
    about it.
    """
    points = [point for point in marked if point.width > marked[-1].width - MAX_STEP]
    step = 1
    while step < MAX_STEP:
        last = max((point.width for point in points if point.width % (2 * step) == 0), default=0)
        lost = [
            point for point in points if point.width < last and point.width % (2 * step) == step
        ]
        if not lost or sum(point.dominated for point in lost) < AGREEMENT * len(lost):
            break
        step *= 2
    return step
