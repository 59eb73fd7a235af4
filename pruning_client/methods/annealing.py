"""Allocator D: a search over all widths that meet the target, described in
docs/explanation/methods.md, "The parts".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from latency_service.core.arrays import Floats, Ints
from pruning_client.methods.allocation import Latency, Lattice
from pruning_client.methods.width_grid import WidthGrid

#: Value [B] of width vectors [B, G].
Value = Callable[[Ints], Floats]
_WALKERS = 128
_STEPS = 500
#: Initial temperature, in units of the value.
_HEAT = 0.03
#: Value that a relative excess of 1 over the target costs.
_PENALTY = 10.0
#: Lattice steps that a group can take in one move.
_LEAPS = (-2, -1, 1, 2)


class _Landscape:
    """Value and latency of architectures, given as places [B, G] on the lattice."""

    def __init__(self, value: Value, latency: Latency, lattice: Lattice, target_ms: float) -> None:
        self._value = value
        self._latency = latency
        self._target_ms = target_ms
        self.grid = WidthGrid(lattice)

    def judge(self, places: Ints) -> tuple[Floats, Floats]:
        """Value [B] less the penalty for excess latency, and value [B] of those within the target,
        -inf for the others.
        """
        widths = self.grid.widths(places)
        worth = self._value(widths)
        excess = np.maximum(self._latency(widths.tolist()) / self._target_ms - 1, 0)
        return worth - _PENALTY * excess, np.where(excess > 0, -np.inf, worth)


def search(
    value: Value, latency: Latency, lattice: Lattice, target_ms: float, *, start: Sequence[int]
) -> list[int]:
    """Allocator D: the widths of greatest value within the target, by simulated annealing with a
    fixed seed.

    Elsewhere D is an evolutionary search that rejects architectures above the target; annealing is
    ours. Half of the walkers begin at `start` [G], which meets the target, the others at random
    places of the lattice. Walkers may exceed the target at a penalty, but only widths within it are
    returned.

    Args:
        value: At most about 1.
        target_ms: Target latency, ms.
    """
    rng = np.random.default_rng(0)
    landscape = _Landscape(value, latency, lattice, target_ms)
    at = landscape.grid.draw(rng, _WALKERS)
    at[::2] = landscape.grid.nearest(start)
    now, _ = landscape.judge(at)
    best = list(start)
    most = float(value(np.array([start]))[0])
    for step in range(_STEPS):
        moved = _moved(at, landscape.grid.sizes, rng)
        after, within = landscape.judge(moved)
        if within.max() > most:
            best = landscape.grid.widths(moved[within.argmax()]).tolist()
            most = float(within.max())
        taken = rng.random(_WALKERS) < np.exp(np.minimum((after - now) / _heat(step), 0))
        at[taken] = moved[taken]
        now[taken] = after[taken]
    return best


def _moved(at: Ints, sizes: Ints, rng: np.random.Generator) -> Ints:
    """Places of all walkers after each has moved one to three of its groups."""
    moved = at.copy()
    walkers = np.arange(len(at))
    for _ in range(rng.integers(1, 4)):
        group = rng.integers(0, len(sizes), len(at))
        leap = rng.choice(_LEAPS, len(at))
        moved[walkers, group] = np.clip(moved[walkers, group] + leap, 0, sizes[group] - 1)
    return moved


def _heat(step: int) -> float:
    """Temperature at a step; it falls quadratically to almost zero."""
    return _HEAT * (1 - step / _STEPS) ** 2 + 1e-5
