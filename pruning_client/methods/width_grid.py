"""A finite choice of widths for every group, addressed by places."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from latency_service.core.arrays import Ints
from pruning_client.methods.allocation import Lattice


class WidthGrid:
    """Widths of G groups, ascending, each addressed by its place in its group's list.

    Attributes:
        choices: Widths of each group, ascending [G][...].
        sizes: Number of widths of each group [G].
    """

    def __init__(self, choices: Lattice) -> None:
        self.choices = [list(widths) for widths in choices]
        self.sizes = np.array([len(widths) for widths in choices])
        self._groups = np.arange(len(choices))
        self._table = np.zeros((len(choices), self.sizes.max()), np.int64)
        for g, widths in enumerate(choices):
            self._table[g, : len(widths)] = widths

    def widths(self, places: Ints) -> Ints:
        """Widths [..., G] at these places [..., G]."""
        found: Ints = self._table[self._groups, places]
        return found

    def nearest(self, widths: Sequence[int]) -> Ints:
        """Places [G] of the widths nearest to the given ones [G]."""
        return np.array(
            [
                int(np.abs(np.asarray(choices) - width).argmin())
                for choices, width in zip(self.choices, widths, strict=True)
            ]
        )

    def draw(self, rng: np.random.Generator, count: int) -> Ints:
        """Uniformly distributed places [count, G]."""
        return rng.integers(0, self.sizes, (count, len(self.choices)))
