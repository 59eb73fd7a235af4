"""Atoms united all at once form the classes, and keep the reasons, of atoms united one by one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pruning_client.graph.labels import FIXED, AtomTable

_ATOMS = 12
atoms = st.integers(0, _ATOMS)
steps = st.lists(
    st.tuples(st.sampled_from(("unite", "pin")), st.lists(st.tuples(atoms, atoms), min_size=1)),
    max_size=8,
)


class OneByOne:
    """The reference: atoms in a dictionary, pairs in ascending order."""

    def __init__(self) -> None:
        self.root = {atom: atom for atom in range(_ATOMS + 1)}
        self.reason = {FIXED: "not a channel"}

    def unite(self, pairs: list[tuple[int, int]], reason: str) -> None:
        for first, second in sorted(set(pairs)):
            low, high = sorted((self.root[first], self.root[second]))
            if low == high:
                continue
            if low == FIXED:
                self.reason.setdefault(high, reason)
                continue
            self.root = {atom: low if r == high else r for atom, r in self.root.items()}
            kept = [self.reason.pop(root) for root in (low, high) if root in self.reason]
            if kept:
                self.reason[low] = kept[0]

    def pin(self, pairs: list[tuple[int, int]], reason: str) -> None:
        for first, _ in pairs:
            self.reason.setdefault(self.root[first], reason)


@given(steps)
def test_classes_and_reasons_are_those_of_single_steps(
    changes: list[tuple[str, list[tuple[int, int]]]],
) -> None:
    table = AtomTable()
    table.fresh(_ATOMS)
    reference = OneByOne()
    for index, (change, pairs) in enumerate(changes):
        first, second = np.array(pairs).T
        if change == "unite":
            table.unite(first, second, f"reason {index}")
            reference.unite(pairs, f"reason {index}")
        else:
            table.pin(first, f"reason {index}")
            reference.pin(pairs, f"reason {index}")
    every = np.arange(_ATOMS + 1)
    assert table.roots(every).tolist() == list(reference.root.values())
    assert [table.is_pinned(root) for root in reference.root.values()] == [
        root in reference.reason for root in reference.root.values()
    ]
    assert all(table.reason(root) == reason for root, reason in reference.reason.items())


def test_a_table_grows() -> None:
    table = AtomTable()
    first = table.fresh(3000)
    second = table.fresh(3000)
    table.unite(first, second, "")
    assert np.array_equal(table.roots(second), first)
