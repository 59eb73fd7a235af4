"""Residual branches of a network, each with the width groups inside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pruning_client.graph.space import Traced

_SUMS = ("Add", "Sum")


def residual_branches(traced: Traced) -> list[list[int]]:
    """Width groups inside each residual branch, ascending; a group belongs to one branch at most.

    A branch is what only one side of a sum depends on. A group is inside it when all nodes that
    use its weights are: the width of nothing else changes with it. Of nested branches the inner
    one has the group.
    """
    nodes = traced.space.model.graph.node
    before = _ancestors(nodes)
    makers = _makers(nodes)
    users = _users(traced, nodes)
    taken: set[int] = set()
    found = []
    for branch in sorted(_branches(nodes, makers, before), key=int.bit_count):
        inside = [
            group for group, used in users.items() if used & ~branch == 0 and group not in taken
        ]
        if inside:
            taken.update(inside)
            found.append(sorted(inside))
    return sorted(found)


def _branches(nodes: Sequence[Any], makers: Mapping[str, int], before: Sequence[int]) -> list[int]:
    """Nodes of each branch, as the bits of a number."""
    found = []
    for node in nodes:
        if node.op_type not in _SUMS or len(node.input) != 2:
            continue
        if not all(name in makers for name in node.input):
            continue
        left, right = (before[makers[name]] for name in node.input)
        if left & right:
            found += [left & ~right, right & ~left]
    return found


def _ancestors(nodes: Sequence[Any]) -> list[int]:
    """For each node the nodes that it depends on, and itself, as the bits of a number.

    Nodes are in the order in which they run.
    """
    makers = _makers(nodes)
    before: list[int] = []
    for index, node in enumerate(nodes):
        own = 1 << index
        for name in node.input:
            if name in makers:
                own |= before[makers[name]]
        before.append(own)
    return before


def _makers(nodes: Sequence[Any]) -> dict[str, int]:
    return {name: index for index, node in enumerate(nodes) for name in node.output}


def _users(traced: Traced, nodes: Sequence[Any]) -> dict[int, int]:
    """For each width group the nodes that read its weights, as the bits of a number."""
    readers: dict[str, int] = {}
    for index, node in enumerate(nodes):
        for name in node.input:
            readers[name] = readers.get(name, 0) | 1 << index
    users: dict[int, int] = {}
    for entry in traced.space.manifest.slices:
        for group in {segment.group for segment in entry.segments if segment.group >= 0}:
            users[group] = users.get(group, 0) | readers.get(entry.initializer, 0)
    return users
