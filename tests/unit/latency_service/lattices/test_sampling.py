"""Samples lie on the lattice, differ from each other and cover the range of latency."""

import numpy as np

from latency_service.lattices.probes import FULL, probe_space
from latency_service.lattices.sampling import _nearest, group_lattice, sample
from latency_service.lattices.schemas import KindLattice, Lattice
from latency_service.spaces.layers import total_macs

LATTICE = Lattice(
    kinds=[
        KindLattice(kind=kind, step=4, points=[]) for kind in ("conv3x3", "conv1x1", "depthwise")
    ]
)


def test_samples_are_on_the_lattice_and_reach_both_ends():
    space = probe_space("conv3x3")
    by_group = group_lattice(space, LATTICE)
    assert by_group == [list(range(4, FULL + 1, 4))]
    found = sample(space, by_group, 10, seed=1)
    assert len(found) == 10
    assert len({tuple(w) for w in found}) == 10
    assert all(w[0] in by_group[0] for w in found)
    assert found[:2] == [[FULL], [4]]


def test_widths_become_the_nearest_of_the_lattice_and_the_narrower_of_equals():
    rng = np.random.default_rng(0)
    choices = [np.unique(rng.integers(1, 200, size)) for size in (1, 2, 3, 40, 160)]
    targets = np.round(rng.uniform(-5, 210, (200, len(choices))) * 2) / 2
    one_by_one = [
        tuple(
            int(widths[np.abs(widths - width).argmin()])
            for widths, width in zip(choices, row, strict=True)
        )
        for row in targets
    ]
    assert _nearest(choices, targets) == one_by_one


def test_no_more_than_the_lattice_holds():
    space = probe_space("conv3x3")
    assert len(sample(space, [[8, 16, FULL]], 50, seed=0)) == 3


def test_the_same_seed_gives_the_same_samples():
    space = probe_space("conv1x1")
    by_group = group_lattice(space, LATTICE)
    assert sample(space, by_group, 12, seed=3) == sample(space, by_group, 12, seed=3)


def test_macs_of_the_samples_are_spread_over_the_range():
    space = probe_space("conv3x3")
    by_group = group_lattice(space, LATTICE)
    macs = np.sort(total_macs(space, np.array(sample(space, by_group, 14, seed=5))))
    assert macs[-1] / macs[0] > 8
    assert np.diff(macs / macs[-1]).max() < 0.35
