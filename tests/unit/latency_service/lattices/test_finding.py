"""Dominated widths are found on sweeps of known shape."""

import pytest

from latency_service.lattices.finding import find_lattice, mark, unclear
from latency_service.lattices.schemas import KindLattice, LatticePoint


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
        40: 0.77,
        41: 0.98,
        43: 0.97,
        44: 0.78,
        47: 1.03,
        48: 0.78,
        55: 1.24,
        56: 0.98,
        63: 1.32,
        64: 0.99,
        65: 1.58,
        72: 1.32,
    }
    lattice = find_lattice({"conv3x3": sweep(facts.__getitem__, facts)})
    entry = lattice.of("conv3x3")
    assert [p.width for p in entry.points if not p.dominated] == [40, 44, 48, 56, 64, 72]


def test_repeats_are_combined_by_how_certain_they_are():
    def point(latency, half_width):
        return LatticePoint(
            width=8,
            latency_ms=latency,
            lower_ms=latency * (1 - half_width),
            upper_ms=latency * (1 + half_width),
        )

    [alike] = mark([point(1.0, 0.02), point(1.02, 0.02)])
    assert alike.latency_ms == pytest.approx(1.01, rel=1e-3)
    assert (alike.upper_ms / alike.lower_ms - 1) / 2 == pytest.approx(0.02 / 2**0.5, rel=0.03)
    [sure] = mark([point(1.0, 0.001), point(1.2, 0.3)])
    assert sure.latency_ms == pytest.approx(1.0, abs=1e-4)
    [exact] = mark([point(1.0, 0.0), point(1.2, 0.3)])
    assert exact.latency_ms == pytest.approx(1.0, abs=1e-4)


def test_a_difference_becomes_clear_when_it_is_measured_twice():
    def once(width):
        return {8: 1.07, 9: 1.0}[width]

    sweeps = sweep(once, (8, 9), half_width=0.028)
    assert unclear(mark(sweeps)) == {8: 9}
    assert [p.width for p in mark([*sweeps, *sweeps]) if p.dominated] == [8]


def test_what_noise_leaves_open_is_told_with_the_width_that_would_dominate_it():
    def latency(width):
        return {8: 1.0, 9: 1.025, 10: 1.1, 11: 1.5, 12: 1.0}[width]

    marked = mark(sweep(latency, range(8, 13)))
    assert [p.width for p in marked if p.dominated] == [10, 11]
    assert unclear(marked) == {9: 12}


def test_a_difference_below_the_margin_is_clear_when_the_intervals_are_narrow():
    marked = mark(sweep(lambda width: 1.01 if width % 2 else 1.0, range(8, 13), half_width=0.002))
    assert not any(point.dominated for point in marked)
    assert unclear(marked) == {}


def test_the_step_is_that_of_the_widest_widths():
    def latency(width):
        return 0.02 * width if width < 64 else sawtooth(8)(width)

    entry = find_lattice({"conv1x1": sweep(latency, range(8, 129))}).of("conv1x1")
    assert entry.step == 8
    assert [w for w in range(50, 201) if entry.is_worthwhile(w)] == [
        *range(50, 64),
        *range(64, 201, 8),
    ]


def test_between_measured_widths_those_of_the_same_remainder_decide():
    def point(width, dominated):
        return LatticePoint(width=width, latency_ms=1, lower_ms=1, upper_ms=1, dominated=dominated)

    points = [
        point(3, True),
        point(5, False),
        point(8, False),
        point(51, True),
        point(53, True),
        point(56, False),
    ]
    entry = KindLattice(kind="conv3x3", step=8, points=points)
    assert [entry.is_worthwhile(w) for w in (3, 19, 35, 51)] == [False] * 4
    assert [entry.is_worthwhile(w) for w in (5, 21, 37, 53)] == [True, True, True, False]
    assert [entry.is_worthwhile(w) for w in (40, 48, 49, 64, 69)] == [
        True,
        True,
        False,
        True,
        False,
    ]


def test_full_width_is_always_on_the_lattice_and_kinds_intersect():
    lattice = find_lattice({"conv3x3": sweep(sawtooth(4)), "conv1x1": sweep(sawtooth(16))})
    assert lattice.worthwhile(["conv3x3"], full=30, minimum=20) == [20, 24, 28, 30]
    assert lattice.worthwhile(["conv3x3", "conv1x1"], full=47, minimum=8) == [16, 32, 47]
    assert lattice.worthwhile(["conv3x3"], full=4, minimum=2, unit=4) == [2, 3, 4]


def test_an_empty_sweep_is_refused():
    with pytest.raises(ValueError, match="conv3x3"):
        find_lattice({"conv3x3": []})
