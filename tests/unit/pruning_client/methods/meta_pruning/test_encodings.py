"""The scale grid on a lattice, and candidates within a budget."""

from __future__ import annotations

import numpy as np
import pytest

from latency_service.core.arrays import Floats
from pruning_client.methods.meta_pruning.encodings import LEAST_USE, Candidates, scale_grid

COARSE = [list(range(8, 65, 8)), list(range(4, 33, 4)), list(range(16, 129, 16))]
LATTICE = [list(range(8, 65, 2)), list(range(4, 33)), list(range(16, 129, 4))]
FULL = [64, 32, 128]
SLOPES = np.array([1.0, 4.0, 0.5])


def latency_ms(widths: object) -> Floats:
    return np.asarray(widths) @ SLOPES


DENSE_MS = float(latency_ms([FULL])[0])
LOWEST_MS = float(latency_ms([[8, 4, 16]])[0])


def candidates(share: float, seed: int = 0) -> Candidates:
    grid = scale_grid(FULL, LATTICE, 31)
    return Candidates(grid, latency_ms, share * DENSE_MS, np.random.default_rng(seed))


def test_the_grid_holds_the_published_scales_on_the_lattice() -> None:
    fine = [list(range(1, 1001))]
    assert scale_grid([1000], fine, 31).choices == [[1, *range(100, 1001, 30)]]
    assert scale_grid(FULL, COARSE, 31).choices == COARSE
    assert scale_grid(FULL, COARSE, 2).choices == [[8, 64], [4, 32], [16, 128]]


@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_every_candidate_is_within_the_budget_and_new(share: float) -> None:
    drawn = candidates(share)
    born = drawn.random(50)
    born += drawn.mutated(born[:10], 25, 0.1)
    born += drawn.crossed(born[:10], 25)
    use = latency_ms([drawn.widths(one) for one in born]) / (share * DENSE_MS)
    assert len(born) > 60
    assert len(set(born)) == len(born)
    assert use.max() <= 1
    assert use.min() >= LEAST_USE


def test_a_tight_budget_still_has_candidates() -> None:
    """Random encodings almost never reach it: they are fitted."""
    share = 1.02 * LOWEST_MS / DENSE_MS
    drawn = candidates(share)
    born = drawn.random(5)
    assert drawn.widths(born[0]) == [8, 4, 16]
    assert latency_ms([drawn.widths(one) for one in born]).max() <= share * DENSE_MS


def test_many_groups_reach_a_budget_far_from_the_mean_of_the_grid() -> None:
    groups = 60
    lattice = [list(range(4, 65, 4))] * groups
    grid = scale_grid([64] * groups, lattice, 31)

    def total(widths: object) -> Floats:
        return np.asarray(widths, np.float64).sum(axis=1)

    drawn = Candidates(grid, total, 0.85 * 64 * groups, np.random.default_rng(0))
    born = drawn._collect(20, lambda: drawn._spread(400))
    assert len(born) == 20, "without fitting any"


def test_a_mutation_redraws_genes_with_its_rate() -> None:
    drawn = candidates(0.5)
    parent = drawn.random(1)
    children = [drawn.mutated(parent, 1, 0.1) for _ in range(20)]
    changed = [np.mean(np.array(child[0]) != parent[0]) for child in children if child]
    assert changed
    assert 0 < np.mean(changed) < 0.7
    assert drawn.mutated(parent, 1, 0.0) == [], "the parent itself is known"


def test_a_child_has_each_gene_of_either_parent() -> None:
    drawn = candidates(0.5)
    parents = drawn.random(2)
    children = drawn.crossed(parents, 4)
    assert children
    for child in children:
        assert all(gene in genes for gene, genes in zip(child, np.array(parents).T, strict=True))
