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
    """Union-find over atoms; a pinned class is never removed and has a reason."""

    def __init__(self) -> None:
        self._parent = [FIXED]
        self._reason: dict[int, str] = {FIXED: "not a channel"}

    def fresh(self, count: int) -> Atoms:
        """New atoms [count], each a class of its own."""
        first = len(self._parent)
        self._parent.extend(range(first, first + count))
        return np.arange(first, first + count)

    def find(self, atom: int) -> int:
        """Representative of an atom's class."""
        parent = self._parent
        while parent[atom] != atom:
            parent[atom] = parent[parent[atom]]
            atom = parent[atom]
        return atom

    def roots(self, atoms: Atoms) -> Atoms:
        """Representatives [...] of atoms [...]."""
        distinct, inverse = np.unique(atoms, return_inverse=True)
        found = np.array([self.find(int(atom)) for atom in distinct], np.int64)
        return np.asarray(found[inverse].reshape(atoms.shape), np.int64)

    def unite(self, a: Atoms, b: Atoms, reason: str) -> None:
        """Unite atoms pairwise ([N] with [N]); an atom united with `FIXED` is pinned for
        `reason`.
        """
        for first, second in np.unique(np.stack([a.ravel(), b.ravel()], axis=1), axis=0):
            self._unite(int(first), int(second), reason)

    def pin(self, atoms: Atoms, reason: str) -> None:
        """Pin the classes of these atoms; the first reason of a class is kept."""
        for atom in np.unique(atoms):
            self._reason.setdefault(self.find(int(atom)), reason)

    def is_pinned(self, root: int) -> bool:
        return root in self._reason

    def reason(self, root: int) -> str:
        """Reason of a pinned class."""
        return self._reason[root]

    def pinned(self, atoms: Atoms) -> Bools:
        """Whether each position [...] can never be removed."""
        distinct, inverse = np.unique(atoms, return_inverse=True)
        known = np.array([self.find(int(atom)) in self._reason for atom in distinct], bool)
        return np.asarray(known[inverse].reshape(atoms.shape))

    def _unite(self, first: int, second: int, reason: str) -> None:
        a = self.find(first)
        b = self.find(second)
        if a == b:
            return
        if FIXED in (a, b):
            self._reason.setdefault(a or b, reason)
            return
        low = min(a, b)
        high = max(a, b)
        self._parent[high] = low
        reasons = [self._reason.pop(root) for root in (low, high) if root in self._reason]
        if reasons:
            self._reason[low] = reasons[0]


def classes_if_united(rows: Atoms) -> int:
    """Number of classes of the atoms of a matrix [N, M] after each row is united."""
    distinct, inverse = np.unique(rows, return_inverse=True)
    table = AtomTable()
    local = table.fresh(len(distinct))
    indices = inverse.reshape(rows.shape)
    for column in range(1, rows.shape[1]):
        table.unite(local[indices[:, 0]], local[indices[:, column]], "")
    return len(np.unique(table.roots(local)))
