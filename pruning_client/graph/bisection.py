"""The search for the groups whose removal is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from latency_service.spaces.plan import Keep
from latency_service.spaces.slicing import SearchSpace
from pruning_client.graph.proof import random_keep


def failing_groups(
    space: SearchSpace, fault: Callable[[Keep], str | None]
) -> Iterator[tuple[int, str]]:
    """Groups that must stay at full width for other removals to be correct, and their faults, in
    the order of the space.

    A group fails if removing its channels is wrong beside those of the groups before it that do
    not fail. Each is found by bisection: with F failing groups of G, about F log2(G) proofs.
    """
    full = [np.arange(group.width) for group in space.groups]
    keep = random_keep(space)
    failing: set[int] = set()

    def fault_of_first(count: int) -> str | None:
        """Fault with channels removed from the first groups, except those that fail."""
        return fault(
            [
                keep[index] if index < count and index not in failing else full[index]
                for index in range(len(full))
            ]
        )

    right = 0
    reason = fault_of_first(len(full))
    # a network that changes between two passes may be at fault with no channel removed
    while reason is not None and right < len(full):
        wrong = len(full)
        while wrong - right > 1:
            middle = (right + wrong) // 2
            found = fault_of_first(middle)
            if found is None:
                right = middle
            else:
                wrong, reason = middle, found
        failing.add(wrong - 1)
        yield wrong - 1, reason
        right = wrong
        reason = fault_of_first(len(full))
