"""When the canaries are read between visits, and the rounds that this makes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, repeat

import pytest

from latency_service.agent.measuring.bench import Bench
from latency_service.agent.measuring.calibration import LEAST_READINGS, LEAST_REFERENCE_READINGS
from latency_service.agent.measuring.canaries import CANARIES, CANARY_MS, build
from latency_service.agent.measuring.sessions import Network, open_network
from latency_service.agent.measuring.timing import Runnable, Stopwatch, Visit
from latency_service.devices.schemas import RuntimeConfig
from latency_service.measurements.schemas import Calibration, Protocol


class Scripted(Stopwatch):
    """A stopwatch whose clock only visits move; the canary's latency follows `canary_ms`."""

    def __init__(self, canary_ms: Iterator[float]) -> None:
        self.now_ns = 0
        super().__init__(lambda: self.now_ns)
        self._canary_ms = canary_ms

    def visit(self, network: Runnable, milliseconds: float, least_runs: int = 3) -> Visit:
        del network, least_runs
        self.now_ns += int(milliseconds * 1e6)
        is_canary = milliseconds == CANARY_MS
        latency_ms = next(self._canary_ms) if is_canary else 0.5
        return Visit(latency_ms=latency_ms, runs=9, interrupted=False)

    def warm_up(self, network: Runnable, protocol: Protocol) -> float:
        del network, protocol
        return 0.3


@pytest.fixture(scope="module")
def network() -> Network:
    return open_network(build(CANARIES[0]), RuntimeConfig())


def bench_of(canary_ms: Iterator[float], *, visit_ms: float = 6.0) -> Bench:
    """A bench with one canary that has been read four times."""
    bench = Bench(RuntimeConfig(), [0], Scripted(canary_ms), canaries=["tiny"], visit_ms=visit_ms)
    for _ in range(4):
        bench.read()
    return bench


def visits_between_readings(bench: Bench, network: Network) -> int:
    visits = 0
    while not bench.is_due:
        bench.visit(network)
        visits += 1
    return visits


def test_visits_share_their_readings_while_the_canaries_hold_still(network: Network) -> None:
    bench = bench_of(cycle([0.1, 0.1025]))
    assert visits_between_readings(bench, network) == 3
    before = bench.readings[-1]
    rounds = bench.rounds()
    after = bench.readings[-1]
    assert [one.before_ms for one in rounds] == [before.canaries] * 3
    assert [one.after_ms for one in rounds] == [after.canaries] * 3
    begun = [one.at_seconds for one in rounds]
    assert begun == pytest.approx([begun[0], begun[0] + 0.006, begun[0] + 0.012])


def test_each_visit_has_readings_of_its_own_while_the_noise_changes(network: Network) -> None:
    bench = bench_of(cycle([0.1, 0.104]))
    for _ in range(3):
        assert visits_between_readings(bench, network) == 1
        (one,) = bench.rounds()
        assert one.before_ms != one.after_ms


def test_a_process_of_few_visits_reads_the_reference_often_enough(network: Network) -> None:
    bench = Bench(RuntimeConfig(), [0], Scripted(repeat(0.1)), canaries=["tiny"])
    bench.read()
    for _ in range(LEAST_REFERENCE_READINGS - 1):
        assert visits_between_readings(bench, network) == 1
        bench.rounds()
    assert visits_between_readings(bench, network) == 3


def test_short_visits_are_not_too_many(network: Network) -> None:
    bench = bench_of(repeat(0.1), visit_ms=0.1)
    assert visits_between_readings(bench, network) == 9


@pytest.mark.parametrize(("visit_ms", "visits"), [(6.5, 3), (9.0, 2), (24.0, 1)])
def test_long_visits_share_their_readings_within_a_moment(
    network: Network, visit_ms: float, visits: int
) -> None:
    bench = bench_of(repeat(0.1), visit_ms=visit_ms)
    assert visits_between_readings(bench, network) == visits


@pytest.mark.parametrize("reference_ms", [0.3, None])
def test_canaries_that_do_not_count_beside_the_reference_are_read_less_often(
    network: Network, reference_ms: float | None
) -> None:
    """Whether the reference is known or not; and their noise does not make readings frequent."""
    bench = bench_beside(network, iter([0.1, 0.3, 0.1, 0.1, 0.1, 0.1, 0.5]), reference_ms)
    bench.warm_up(Protocol())
    readings = [bench.read() for _ in range(5)]
    assert [one.canaries for one in readings] == [[0.1, 0.3]] * 4 + [[0.1, 0.5]]
    assert visits_between_readings(bench, network) > 1
    summary = bench.summary()
    assert summary.count == 2
    assert summary.typical_ms == [0.1, 0.4]


@pytest.mark.parametrize("reference_ms", [0.43, 0.38])
def test_canaries_count_that_may_turn_out_to_count(network: Network, reference_ms: float) -> None:
    """.3 ms is 70 % of .43 ms; and .38 ms is what the reference is known to take so far."""
    bench = bench_beside(network, cycle([0.1, 0.3]), reference_ms)
    bench.warm_up(Protocol())
    for _ in range(5):
        bench.read()
    assert bench.summary().count == 5


@pytest.mark.parametrize(("visits", "count"), [(60, LEAST_READINGS), (7, 8)])
def test_a_process_that_measured_enough_tells_the_floors_of_all_canaries(
    network: Network, visits: int, count: int
) -> None:
    bench = bench_beside(network, cycle([0.1]), 0.3)
    bench.warm_up(Protocol())
    bench.read()
    for _ in range(visits):
        bench.visit(network)
        bench.rounds()
    assert bench.summary().count < count
    bench.complete()
    assert bench.summary().count == count


def bench_beside(network: Network, canary_ms: Iterator[float], reference_ms: float | None) -> Bench:
    """A bench with two canaries, and a reference whose runs take .3 ms in this process."""
    calibration = Calibration(
        canaries=["tiny", "half"], floor_ms=[0.1, 0.3], reference_ms=reference_ms
    )
    return Bench(
        RuntimeConfig(),
        [0],
        Scripted(canary_ms),
        canaries=["tiny", "half"],
        reference=network,
        calibration=calibration,
    )
