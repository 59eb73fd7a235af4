"""Allocator D: a search over all widths within the target (docs/methods.md, "One interface")."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from latency_service.core.arrays import Floats, Ints
from pruning_client.methods.allocation import Latency, Lattice

#: Value [B] of width vectors [B, G].
Value = Callable[[Ints], Floats]
#: Annealing: walkers, steps, what they accept to lose at first, what being above the target costs;
#: lattice steps that a group takes at once.
_WALKERS = 128
_WALKED = 500
_HEAT = 0.03
_PENALTY = 10.0
_LEAPS = (-2, -1, 1, 2)


def search(
    value: Value, latency: Latency, lattice: Lattice, target_ms: float, *, start: Sequence[int]
) -> list[int]:
    """Allocator D: of all widths within the target those of greatest value, by annealing, the same
    every time.

    Elsewhere D is an evolutionary search that rejects what is above the target; annealing is ours.
    Half of the walkers begin at `start` [G], which is within the target, the others anywhere on the
    lattice; all may step beyond the target, at a price, but only what is within it is returned.
    `value` is at most about 1, `target_ms` in ms.
    """
    rng = np.random.default_rng(0)
    sizes = np.array([len(choices) for choices in lattice])
    padded = np.zeros((len(lattice), sizes.max()), np.int64)
    for g, choices in enumerate(lattice):
        padded[g, : len(choices)] = choices
    groups = np.arange(len(lattice))
    walkers = np.arange(_WALKERS)
    at = rng.integers(0, sizes, (_WALKERS, len(lattice)))
    at[::2] = [list(choices).index(width) for choices, width in zip(lattice, start, strict=True)]

    def judge(at: Ints) -> tuple[Floats, Floats]:
        widths = padded[groups, at]
        worth = value(widths)
        excess = np.maximum(latency(widths.tolist()) / target_ms - 1, 0)
        return worth - _PENALTY * excess, np.where(excess > 0, -np.inf, worth)

    now, _ = judge(at)
    best = list(start)
    most = float(value(np.array([start]))[0])
    for step in range(_WALKED):
        moved = at.copy()
        for _ in range(rng.integers(1, 4)):
            group = rng.integers(0, len(lattice), _WALKERS)
            moved[walkers, group] = np.clip(
                moved[walkers, group] + rng.choice(_LEAPS, _WALKERS), 0, sizes[group] - 1
            )
        after, within = judge(moved)
        if within.max() > most:
            best = padded[groups, moved[within.argmax()]].tolist()
            most = float(within.max())
        heat = _HEAT * (1 - step / _WALKED) ** 2 + 1e-5
        taken = rng.random(_WALKERS) < np.exp(np.minimum((after - now) / heat, 0))
        at[taken], now[taken] = moved[taken], after[taken]
    return best
