"""Rounds of a sweep find the lattice of known processors, in noise, with a fraction of the widths
measured.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from latency_service.lattices.finding import find_lattice
from latency_service.lattices.planning import COARSE, MAX_ROUNDS, next_widths, sweep_protocol
from latency_service.lattices.probes import FULL
from latency_service.lattices.schemas import PERIOD, KindLattice, LatticePoint
from latency_service.measurements.schemas import Protocol

Latency = Callable[[int], float]


def blocks(block: int, penalty: float = 0.3) -> Latency:
    """Whole blocks cost the same however full the last one is, and unaligned widths `penalty`
    more.
    """
    return lambda width: (2 - -width // block) * (1 + penalty * (width % block > 0))


def straight(width: int) -> float:
    return 10.0 + width


def two_ranges(width: int) -> float:
    """Step 1 up to 40, step 8 from there on, as 1x1 convolutions of ONNX Runtime behave."""
    return blocks(8, 0.0 if width <= 40 else 0.3)(width) + 1e-3 * width


PROCESSORS: dict[str, Latency] = {
    "blocks of 4": blocks(4),
    "blocks of 8": blocks(8),
    "blocks of 16": blocks(16),
    "smooth": straight,
    "two ranges": two_ranges,
}


def measure(
    latency: Latency, width: int, rng: np.random.Generator, noise: float = 0.003
) -> LatticePoint:
    measured = latency(width) * float(np.exp(noise * rng.standard_normal()))
    return LatticePoint(
        width=width,
        latency_ms=measured,
        lower_ms=measured * (1 - 2 * noise),
        upper_ms=measured * (1 + 2 * noise),
    )


def find(latency: Latency, seed: int) -> tuple[KindLattice, list[list[int]]]:
    """The lattice after as many rounds as are asked for, and these."""
    rng = np.random.default_rng(seed)
    points = list[LatticePoint]()
    rounds = list[list[int]]()
    while widths := next_widths(points):
        rounds.append(widths)
        points += [measure(latency, width, rng) for width in widths]
        assert len(rounds) <= MAX_ROUNDS
    found = find_lattice({"conv3x3": points}).of("conv3x3")
    assert found is not None
    return found, rounds


def dominated(latency: Latency, width: int) -> bool:
    return min(latency(wider) for wider in range(width, FULL + 1)) < 0.97 * latency(width)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", PROCESSORS)
def test_the_lattice_found_is_that_of_a_dense_sweep(name: str, seed: int) -> None:
    latency = PROCESSORS[name]
    found, _ = find(latency, seed)
    judged = range(8, 137)
    wrong = [width for width in judged if found.is_worthwhile(width) == dominated(latency, width)]
    assert wrong == []


@pytest.mark.parametrize("name", PROCESSORS)
def test_it_is_found_with_a_part_of_the_widths(name: str) -> None:
    _, rounds = find(PROCESSORS[name], seed=0)
    assert rounds[0] == list(COARSE)
    assert sum(map(len, rounds)) < 0.7 * FULL


def test_one_step_for_all_widths_needs_the_coarse_round_only() -> None:
    _, rounds = find(blocks(8), seed=0)
    assert len(rounds) == 1


def test_later_rounds_ask_only_where_verdicts_differ() -> None:
    _, rounds = find(two_ranges, seed=0)
    asked = {width for widths in rounds[1:] for width in widths}
    assert asked
    assert max(asked) <= 64, "from there on one rule holds"
    assert asked & set(range(33, 48))


def test_a_width_that_noise_leaves_open_is_measured_twice_at_most() -> None:
    rng = np.random.default_rng(0)
    points: list[LatticePoint] = []
    while widths := next_widths(points):
        points += [measure(blocks(8, 0.05), width, rng, noise=0.05) for width in widths]
    times = [sum(point.width == width for point in points) for width in COARSE]
    assert max(times) == 2


def test_a_sweep_that_lost_its_points_begins_again() -> None:
    rng = np.random.default_rng(0)
    assert next_widths([]) == list(COARSE)
    assert next_widths([measure(straight, 33, rng)]) == list(COARSE)


def test_every_remainder_is_in_the_coarse_round_three_times() -> None:
    remainders = [width % PERIOD for width in COARSE]
    assert min(remainders.count(remainder) for remainder in range(PERIOD)) == 3


def test_the_protocol_of_sweeps_is_the_campaigns_made_shorter() -> None:
    short = sweep_protocol(Protocol())
    assert (short.max_rounds, short.round_ms, short.half_width) == (15, 2.0, 0.01)
    quick = Protocol(
        min_rounds=3,
        max_rounds=4,
        round_ms=0.5,
        budget_seconds=0.5,
        half_width=0.9,
        warmup_min_seconds=0.0,
    )
    assert sweep_protocol(quick) == quick
