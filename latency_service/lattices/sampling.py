"""Which architectures of a space to measure: on the lattice, covering the whole range of
latency.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from latency_service.core.arrays import Floats, Ints
from latency_service.lattices.probes import kinds_of_groups
from latency_service.lattices.schemas import Lattice
from latency_service.spaces.slicing import SearchSpace

#: Spread of a group's width around its sample's level, as a share of the full width.
SPREAD = 0.22


def group_lattice(space: SearchSpace, lattice: Lattice) -> list[list[int]]:
    """For each width group of `space` the widths worth using on the target [G][...], ascending."""
    return [
        lattice.worthwhile(kinds, full=group.width, minimum=group.minimum, unit=group.unit)
        for group, kinds in zip(space.groups, kinds_of_groups(space), strict=True)
    ]


def sample(
    space: SearchSpace, lattice_by_group: Sequence[Sequence[int]], count: int, seed: int
) -> list[list[int]]:
    """Up to `count` different width vectors [N][G] on the lattice, the dense and the narrowest
    architecture first.

    Independent uniform widths all have nearly the same latency. Therefore a level is drawn for each
    sample, stratified over the range, and the width of each group around that level. There are
    fewer than `count` only when the lattice holds fewer.
    """
    rng = np.random.default_rng(seed)
    choices = [np.asarray(widths) for widths in lattice_by_group]
    full = np.array([group.width for group in space.groups], dtype=float)
    dense = tuple(int(c[-1]) for c in choices)
    narrowest = tuple(int(c[0]) for c in choices)
    found: dict[tuple[int, ...], None] = {dense: None, narrowest: None}
    possible = float(np.prod([float(len(c)) for c in choices]))
    wanted = int(min(count, possible))
    while len(found) < wanted:
        targets = _targets(rng, wanted - len(found), full, np.array(narrowest) / full)
        found |= dict.fromkeys(_nearest(choices, targets))
        if possible < 4 * wanted:
            # nearly the whole lattice is wanted: noise alone would take long to find the rest
            found.setdefault(tuple(int(rng.choice(c)) for c in choices), None)
    return [list(widths) for widths in list(found)[:count]]


def _targets(rng: np.random.Generator, count: int, full: Floats, lowest: Floats) -> Floats:
    """Stratified random widths [count, G]; `lowest` [G] is the lower end as a share of `full`."""
    levels = (rng.permutation(count) + rng.random(count)) / count
    shares = levels[:, None] + SPREAD * rng.standard_normal((count, len(full)))
    return np.asarray((lowest + np.clip(shares, 0, 1) * (1 - lowest)) * full)


def _nearest(choices: Sequence[Ints], targets: Floats) -> list[tuple[int, ...]]:
    """The lattice point nearest to each of the widths `targets` [N, G], the narrower of equals; of
    ascending `choices` [G][...].
    """
    columns = []
    for widths, column in zip(choices, targets.T, strict=True):
        wider = np.searchsorted(widths, column).clip(1, max(len(widths) - 1, 1))
        pair = widths[wider - 1], widths[wider % len(widths)]
        columns.append(np.where(column - pair[0] <= pair[1] - column, *pair))
    return [tuple(row) for row in np.stack(columns, axis=1).tolist()]
