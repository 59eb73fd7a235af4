"""Atoms: every position on every axis of every tensor belongs to one, and atoms that can only be
removed together are united.
"""

from __future__ import annotations

import numpy as np

from latency_service.core.arrays import Bools, Ints

Atoms = Ints
#: Atom of positions that are not channels: batch, pixels, axes of size one.
FIXED = 0


class AtomTable:
    """Union-find over atoms; a pinned class is never removed and has a reason.

    The representative of a class is its lowest atom.
    """

    def __init__(self) -> None:
        self._parent = np.zeros(1 << 10, np.int64)
        self._is_pinned = np.zeros(1 << 10, bool)
        self._count = 1
        self._reason: dict[int, str] = {}
        self._give_reason(FIXED, "not a channel")

    def __len__(self) -> int:
        """Number of atoms."""
        return self._count

    def fresh(self, count: int) -> Atoms:
        """New atoms [count], each a class of its own."""
        first = self._count
        self._count += count
        if self._count > len(self._parent):
            more = max(self._count, 2 * len(self._parent)) - len(self._parent)
            self._parent = np.concatenate([self._parent, np.zeros(more, np.int64)])
            self._is_pinned = np.concatenate([self._is_pinned, np.zeros(more, bool)])
        made = np.arange(first, first + count)
        self._parent[made] = made
        return made

    def find(self, atom: int) -> int:
        """Representative of an atom's class."""
        return int(self.roots(np.array([atom]))[0])

    def roots(self, atoms: Atoms) -> Atoms:
        """Representatives [...] of atoms [...]."""
        found = self._parent[atoms]
        while True:
            further = self._parent[found]
            if np.array_equal(further, found):
                return found
            self._parent[atoms] = further
            found = further

    def unite(self, a: Atoms, b: Atoms, reason: str) -> None:
        """Unite atoms pairwise ([N] with [N]); an atom united with `FIXED` is pinned for
        `reason`.
        """
        first = self.roots(a.ravel())
        second = self.roots(b.ravel())
        if np.any(self._is_pinned[first]) or np.any(self._is_pinned[second]):
            # which reason a class keeps depends on the order
            for pair in np.unique(np.stack([a.ravel(), b.ravel()], axis=1), axis=0):
                self._unite(int(pair[0]), int(pair[1]), reason)
            return
        while np.any(first != second):
            np.minimum.at(self._parent, np.maximum(first, second), np.minimum(first, second))
            first = self.roots(first)
            second = self.roots(second)

    def pin(self, atoms: Atoms, reason: str) -> None:
        """Pin the classes of these atoms; the first reason of a class is kept."""
        roots = np.unique(self.roots(atoms))
        for root in roots[~self._is_pinned[roots]]:
            self._give_reason(int(root), reason)

    def is_pinned(self, root: int) -> bool:
        return root in self._reason

    def reason(self, root: int) -> str:
        """Reason of a pinned class."""
        return self._reason[root]

    def pinned(self, atoms: Atoms) -> Bools:
        """Whether each position [...] can never be removed."""
        return self._is_pinned[self.roots(atoms)]

    def _give_reason(self, root: int, reason: str) -> None:
        self._reason.setdefault(root, reason)
        self._is_pinned[root] = True

    def _unite(self, first: int, second: int, reason: str) -> None:
        a = self.find(first)
        b = self.find(second)
        if a == b:
            return
        if FIXED in (a, b):
            self._give_reason(a or b, reason)
            return
        low = min(a, b)
        high = max(a, b)
        self._parent[high] = low
        reasons = [self._reason.pop(root) for root in (low, high) if root in self._reason]
        self._is_pinned[high] = False
        if reasons:
            self._give_reason(low, reasons[0])


def classes_if_united(rows: Atoms) -> int:
    """Number of classes of the atoms of a matrix [N, M] after each row is united."""
    distinct, inverse = np.unique(rows, return_inverse=True)
    table = AtomTable()
    local = table.fresh(len(distinct))
    indices = inverse.reshape(rows.shape)
    table.unite(np.broadcast_to(local[indices[:, :1]], rows.shape), local[indices], "")
    return len(np.unique(table.roots(local)))
