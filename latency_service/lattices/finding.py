"""From measured sweeps to a lattice: which widths are dominated. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from latency_service.lattices.schemas import KindLattice, Lattice, LatticePoint

#: A wider width must be faster by this share before a width counts as dominated: below it the two are alike.
MARGIN = 0.02
#: Coarsest block size that is looked for.
MAX_STEP = 32
#: Share of the widths outside a block size's multiples that must be dominated: the rest is left to noise.
AGREEMENT = 0.8


def find_lattice(points: Mapping[str, Sequence[LatticePoint]]) -> Lattice:
    """The lattice that the sweeps `points` (by kind of layer) show.

    A width is dominated when a wider one of the same sweep is faster by more than `MARGIN` and by more than the two
    intervals explain. The `step` is the coarsest power of two outside whose multiples nearly every width is dominated.

    Raises:
        ValueError: a sweep is empty.
    """
    return Lattice(kinds=[_kind(kind, sweep) for kind, sweep in sorted(points.items())])


def _kind(kind: str, sweep: Sequence[LatticePoint]) -> KindLattice:
    if not sweep:
        raise ValueError(f"the sweep of {kind!r} holds no measurement")
    ordered = sorted(sweep, key=lambda point: point.width)
    marked = [
        point.model_copy(update={"dominated": any(_beats(wider, point) for wider in ordered[i + 1 :])})
        for i, point in enumerate(ordered)
    ]
    return KindLattice(kind=kind, step=_step(marked), points=marked)


def _beats(wider: LatticePoint, point: LatticePoint) -> bool:
    faster = wider.latency_ms < point.latency_ms * (1 - MARGIN)
    return faster and wider.upper_ms < point.lower_ms


def _step(points: Sequence[LatticePoint]) -> int:
    """Double the block size while the widths that would be lost by it are dominated anyway.

    The widest widths of a sweep lack wider neighbours that could dominate them: those above the last multiple of a
    block size say nothing about it.
    """
    step = 1
    while step < MAX_STEP:
        last = max((point.width for point in points if point.width % (2 * step) == 0), default=0)
        lost = [point for point in points if point.width < last and point.width % (2 * step) == step]
        if not lost or sum(point.dominated for point in lost) < AGREEMENT * len(lost):
            break
        step *= 2
    return step
