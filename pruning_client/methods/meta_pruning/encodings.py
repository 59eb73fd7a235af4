"""Encodings: widths of a scale grid on the target's lattice, and candidates within a budget."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from latency_service.core.arrays import Floats, Ints
from pruning_client.methods.allocation import Latency, Lattice, fit
from pruning_client.methods.width_grid import WidthGrid

#: Places of the widths on the grid [G].
Encoding = tuple[int, ...]

#: Smallest scale of the published grid.
LEAST_SCALE = 0.1
#: Lower bound of a candidate's latency, as a share of the target.
LEAST_USE = 0.9
#: Number of times that candidates are drawn until enough are within the budget.
TRIES = 10
#: Encodings of one draw, which the predictor is asked about together.
_DRAWN = 1000


def scale_grid(full: Sequence[int], lattice: Lattice, scales: int) -> WidthGrid:
    """Widths of evenly spaced scales from .1 to 1, each at the nearest lattice width, and the
    narrowest lattice width.

    Scales with the same width are one choice: a coarse lattice leaves fewer than `scales`.

    Args:
        full: Full width of each group [G].
        scales: Number of scales; 31 in the published code.
    """
    shares = np.linspace(LEAST_SCALE, 1, scales)
    return WidthGrid(
        [
            _nearest_widths(shares * width, choices)
            for width, choices in zip(full, lattice, strict=True)
        ]
    )


def _nearest_widths(wanted: Floats, choices: Sequence[int]) -> list[int]:
    widths = np.asarray(choices)
    nearest = widths[np.abs(widths[None] - wanted[:, None]).argmin(axis=1)]
    return sorted({int(widths[0]), *nearest.tolist()})


class Candidates:
    """Encodings that are within the budget and were not drawn before.

    A candidate's latency lies between 90 % of the target and the target. The published search
    accepts a band of 2.5 % on either side of its budget of FLOPs.

    Args:
        latency: Predicted latency, ms.
        target_ms: Budget, ms.
    """

    def __init__(
        self, grid: WidthGrid, latency: Latency, target_ms: float, rng: np.random.Generator
    ) -> None:
        self._grid = grid
        self._latency = latency
        self._target_ms = target_ms
        self._rng = rng
        self._known: set[Encoding] = set()

    def random(self, count: int) -> list[Encoding]:
        """Candidates whose scales are uniform in an interval of their own.

        The published search draws uniformly between 40 and 80 % of the grid. With many groups all
        such encodings have nearly the same latency, far from most budgets; random intervals reach
        every budget [ours].
        """
        found = self._collect(count, lambda: self._spread(_DRAWN))
        return [*found, *self._fitted(count - len(found))]

    def mutated(self, parents: Sequence[Encoding], count: int, rate: float) -> list[Encoding]:
        """Parents with each gene redrawn with probability `rate`, to another width."""
        pool = np.array(parents)

        def draw() -> Ints:
            chosen = pool[self._rng.integers(0, len(pool), _DRAWN)]
            changes = self._rng.random(chosen.shape) < rate
            steps = self._rng.integers(1, np.maximum(self._grid.sizes, 2), chosen.shape)
            moved: Ints = (chosen + changes * steps) % self._grid.sizes
            return moved

        return self._collect(count, draw)

    def crossed(self, parents: Sequence[Encoding], count: int) -> list[Encoding]:
        """Two parents with each gene from either of them."""
        pool = np.array(parents)

        def draw() -> Ints:
            one, other = self._rng.integers(0, len(pool), (2, _DRAWN))
            first = self._rng.random((len(one), pool.shape[1])) < 0.5
            children: Ints = np.where(first, pool[one], pool[other])
            return children

        return self._collect(count, draw)

    def widths(self, encoding: Encoding) -> list[int]:
        """Widths [G] of an encoding."""
        found: list[int] = self._grid.widths(np.array(encoding)).tolist()
        return found

    def _collect(self, count: int, draw: Callable[[], Ints]) -> list[Encoding]:
        """Up to `count` new candidates of a bounded number of draws."""
        found: list[Encoding] = []
        for _ in range(TRIES if count else 0):
            drawn = draw()
            use = self._latency(self._grid.widths(drawn).tolist()) / self._target_ms
            within = drawn[(use >= LEAST_USE) & (use <= 1)]
            found += self._new(within, count - len(found))
            if len(found) == count:
                break
        return found

    def _new(self, drawn: Ints, count: int) -> list[Encoding]:
        """Up to `count` of the encodings that are not known yet; they are known from then on."""
        found: list[Encoding] = []
        for places in drawn.tolist():
            encoding = tuple(places)
            if len(found) < count and encoding not in self._known:
                self._known.add(encoding)
                found.append(encoding)
        return found

    def _spread(self, count: int) -> Ints:
        """Places [count, G], uniform between two random shares of the grid for each encoding."""
        low, high = np.sort(self._rng.random((2, count, 1)), axis=0)
        shares = low + (high - low) * self._rng.random((count, len(self._grid.sizes)))
        places: Ints = (shares * self._grid.sizes).astype(np.int64)
        return places

    def _fitted(self, count: int) -> list[Encoding]:
        """New candidates from random ones that are fitted to the budget, where too few of those
        drawn are within it.
        """
        found: list[Encoding] = []
        for _ in range(2 * count):
            if len(found) == count:
                break
            widths = self._grid.widths(self._grid.draw(self._rng, 1)[0]).tolist()
            prices = self._rng.random(len(widths))
            scores = [
                np.full(choices[-1], 0.1 + price)
                for choices, price in zip(self._grid.choices, prices, strict=True)
            ]
            fitted = fit(widths, scores, self._latency, self._grid.choices, self._target_ms)
            found += self._new(self._grid.nearest(fitted)[None], 1)
        return found
