"""Dominated widths are found on sweeps of known shape."""

import pytest

from latency_service.lattices.finding import find_lattice
from latency_service.lattices.schemas import LatticePoint


def sweep(latency, widths=range(8, 65), half_width=0.01):
    return [
        LatticePoint(
            width=w,
            latency_ms=latency(w),
            lower_ms=latency(w) * (1 - half_width),
            upper_ms=latency(w) * (1 + half_width),
        )
        for w in widths
    ]


def sawtooth(block):
    def latency(width):
        padded = -(-width // block) * block
        return padded * (0.02 if width == padded else 0.027)

    return latency


@pytest.mark.parametrize("block", [4, 8, 16])
def test_the_period_of_a_sawtooth_is_its_step(block):
    lattice = find_lattice({"conv3x3": sweep(sawtooth(block))})
    entry = lattice.of("conv3x3")
    assert entry.step == block
    assert {p.width for p in entry.points if not p.dominated and p.width < 64 - block} == {
        w for w in range(8, 64 - block) if w % block == 0
    }


def test_a_smooth_target_has_step_one_and_nothing_dominated():
    lattice = find_lattice({"conv1x1": sweep(lambda w: 0.02 * w)})
    assert lattice.of("conv1x1").step == 1
    assert not any(point.dominated for point in lattice.of("conv1x1").points)


def test_a_difference_within_the_noise_does_not_dominate():
    lattice = find_lattice({"conv3x3": sweep(sawtooth(4), half_width=0.3)})
    assert not any(point.dominated for point in lattice.of("conv3x3").points)


def test_the_facts_measured_in_the_design_leave_multiples_of_four_undominated():
    facts = {
        40: 0.77, 41: 0.98, 43: 0.97, 44: 0.78, 47: 1.03, 48: 0.78, 55: 1.24, 56: 0.98, 63: 1.32, 64: 0.99,
        65: 1.58, 72: 1.32,
    }  # fmt: skip
    lattice = find_lattice({"conv3x3": sweep(facts.__getitem__, facts)})
    entry = lattice.of("conv3x3")
    assert [p.width for p in entry.points if not p.dominated] == [40, 44, 48, 56, 64, 72]


def test_full_width_is_always_on_the_lattice_and_kinds_intersect():
    lattice = find_lattice({"conv3x3": sweep(sawtooth(4)), "conv1x1": sweep(sawtooth(16))})
    assert lattice.worthwhile(["conv3x3"], full=30, minimum=20) == [20, 24, 28, 30]
    assert lattice.worthwhile(["conv3x3", "conv1x1"], full=47, minimum=8) == [16, 32, 47]
    assert lattice.worthwhile(["conv3x3"], full=4, minimum=2, unit=4) == [2, 3, 4]


def test_an_empty_sweep_is_refused():
    with pytest.raises(ValueError, match="conv3x3"):
        find_lattice({"conv3x3": []})
