"""Which widths of a probe to measure next, until its lattice is known. Pure functions.

A processor computes channels in blocks, so whether a width is dominated depends on its remainder by
the block size and changes rarely along the widths of one remainder: at the edge between the ranges
in which the runtime chooses one way to compute or another. The first round is coarse: the narrow
widths, where ranges are short, and whole blocks in the middle and at the wide end. The rounds after
it bisect, along the widths of one remainder, between measured widths of unlike verdict, and measure
once more what noise left undecided. [ours]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

from latency_service.lattices.finding import mark, unclear
from latency_service.lattices.probes import FULL
from latency_service.lattices.schemas import PERIOD, LatticePoint
from latency_service.measurements.schemas import Protocol

#: Widths of the first round.
COARSE = (*range(1, 25), 28, 32, *range(49, 65), 81, 84, 88, 96, *range(129, 145), FULL)
#: Maximum number of rounds of one kind: the coarse one, three of bisecting, repeats; a change of
#: the target takes a few more.
MAX_ROUNDS = 8
#: Maximum number of times that one width is measured.
_TIMES = 2


def next_widths(points: Sequence[LatticePoint]) -> list[int]:
    """Widths to measure next, ascending, given all measurements so far (repeats included); none
    when it is done.
    """
    times = Counter(point.width for point in points)
    if missing := [width for width in COARSE if not times[width]]:
        return missing
    marked = mark(points)
    wanted = {
        width for middle in _middles(marked) for width in _with_rivals(middle) if not times[width]
    }
    for width, rival in unclear(marked).items():
        if times[width] < _TIMES:
            wanted |= {width} | ({rival} if times[rival] < _TIMES else set())
    return sorted(wanted)


def sweep_protocol(protocol: Protocol) -> Protocol:
    """`protocol` for the layers of a sweep: they take a tenth of a millisecond, and only steps
    between them matter.
    """
    return protocol.model_copy(
        update={
            "min_rounds": min(protocol.min_rounds, 9),
            "max_rounds": min(protocol.max_rounds, 15),
            "round_ms": min(protocol.round_ms, 2.0),
            "budget_seconds": min(protocol.budget_seconds, 1.0),
        }
    )


def _middles(marked: Sequence[LatticePoint]) -> Iterator[int]:
    """Halfway between neighbours of one remainder that differ in their verdict."""
    for remainder in range(PERIOD):
        alike = [point for point in marked if point.width % PERIOD == remainder]
        for below, above in pairwise(alike):
            blocks = (above.width - below.width) // PERIOD
            if below.dominated != above.dominated and blocks > 1:
                yield below.width + blocks // 2 * PERIOD


def _with_rivals(width: int) -> set[int]:
    """The width and the next multiples of usual block sizes: what would dominate it."""
    return {width} | {-(-width // block) * block for block in (4, 8, PERIOD)}
