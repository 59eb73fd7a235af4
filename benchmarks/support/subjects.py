"""Architectures that the benchmarks of measuring are run on."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from latency_service.lattices.sampling import sample
from latency_service.spaces.slicing import SearchSpace
from pruning_client.graph.space import make_space

#: Step of the widths: the block of most vector units.
STEP = 8


def subjects(
    network: Callable[[], tuple[nn.Module, Tensor]], count: int
) -> tuple[SearchSpace, list[list[int]]]:
    """The search space of `network`, and `count` architectures over its range of latency."""
    space = make_space(*network()).space
    lattice = [
        [w for w in range(STEP, group.width + 1, STEP) if w >= group.minimum]
        for group in space.groups
    ]
    return space, sample(space, lattice, count, seed=1)
