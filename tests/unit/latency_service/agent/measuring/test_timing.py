"""Visits and warm-up with a clock of their own, so that every number is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from latency_service.agent.measuring.timing import Stopwatch, settled, summary_of
from latency_service.measurements.schemas import Protocol

MS = 1_000_000


class Clocked:
    """A network whose runs take the given times, ms, the last one for ever; and the clock that
    shows it.
    """

    def __init__(self, times_ms: Sequence[float]) -> None:
        self.now_ns, self.runs, self._times = 0, 0, self._endless(times_ms)

    def run(self) -> None:
        self.now_ns += int(next(self._times) * MS)
        self.runs += 1

    def clock_ns(self) -> int:
        return self.now_ns

    @staticmethod
    def _endless(times_ms: Sequence[float]) -> Iterator[float]:
        yield from times_ms
        while True:
            yield times_ms[-1]


def watch_of(network: Clocked) -> Stopwatch:
    return Stopwatch(network.clock_ns)


def test_a_visit_lasts_as_long_as_it_is_told() -> None:
    network = Clocked([1.0])
    watch = watch_of(network)
    visit = watch.visit(network, 6.0)
    assert (visit.runs, visit.latency_ms) == (6, 1.0)
    assert watch.timed_seconds == pytest.approx(0.006)


def test_a_slow_network_is_run_three_times() -> None:
    network = Clocked([500.0])
    assert watch_of(network).visit(network, 6.0).runs == 3


def test_the_fastest_quartile_speaks() -> None:
    network = Clocked([9.0, 1.0, 2.0, 3.0, 4.0, 4.0, 4.0, 4.0])
    assert watch_of(network).visit(network, 31.0).latency_ms == pytest.approx(1.5)


@given(st.lists(st.tuples(st.integers(1, 10**9), st.integers(0, 3)), min_size=1, max_size=40))
def test_a_visit_lies_between_its_fastest_run_and_their_mean(runs: list[tuple[int, int]]) -> None:
    visit = summary_of(runs)
    times = [time for time, _ in runs]
    assert min(times) / MS <= visit.latency_ms * (1 + 1e-12)
    assert visit.latency_ms <= sum(times) / len(times) / MS * (1 + 1e-12)


def test_only_interruptions_of_the_fastest_runs_disturb() -> None:
    slow_one = [(1 * MS, 0)] * 3 + [(4 * MS, 1)]
    assert not summary_of(slow_one).interrupted
    assert summary_of([(time, 1) for time, _ in slow_one]).interrupted


def test_warm_up_goes_on_until_windows_agree() -> None:
    falling = [10.0 * 0.9**k for k in range(30)]
    network = Clocked(falling)
    watch = watch_of(network)
    watch.warm_up(network, Protocol(warmup_min_runs=1, warmup_min_seconds=0.0))
    assert network.runs > 30
    assert watch.timed_seconds == pytest.approx(network.now_ns / 1e9)


def test_warm_up_has_its_least_runs_and_seconds() -> None:
    steady = Clocked([1.0])
    watch_of(steady).warm_up(steady, Protocol(warmup_min_runs=10, warmup_min_seconds=0.0))
    assert steady.runs == 10
    longer = Clocked([1.0])
    watch_of(longer).warm_up(longer, Protocol(warmup_min_runs=10, warmup_min_seconds=0.2))
    assert longer.runs == 200


def test_the_least_seconds_of_a_warm_up_are_those_of_the_process() -> None:
    network = Clocked([1.0])
    watch = watch_of(network)
    protocol = Protocol(warmup_min_runs=10, warmup_min_seconds=0.2)
    for runs in (200, 210, 220):
        watch.warm_up(network, protocol)
        assert network.runs == runs


def test_warm_up_ends_even_when_windows_never_agree() -> None:
    network = Clocked([1.0 + (k // 5) % 2 for k in range(4000)])
    watch_of(network).warm_up(network, Protocol())
    assert network.now_ns < 1.1e9


def test_two_windows_make_a_judgement() -> None:
    assert not settled([100] * 9)
    assert settled([100] * 10)
    assert not settled([100] * 5 + [103] * 5)


def test_interruptions_count_by_the_length_of_the_run() -> None:
    """Of a run of half a second the system's own housekeeping takes some per mille."""
    assert not summary_of([(500 * MS, 5)]).interrupted
    assert summary_of([(500 * MS, 6)]).interrupted


@pytest.mark.parametrize(("run_ms", "runs"), [(50.0, 20), (400.0, 10), (5000.0, 6), (20000.0, 3)])
def test_a_slow_network_warms_up_for_two_windows_within_half_a_minute(
    run_ms: float, runs: int
) -> None:
    unsettled = Clocked([run_ms * (1 + 0.5 * ((k // 5) % 2)) for k in range(4000)])
    watch = watch_of(unsettled)
    protocol = Protocol(warmup_min_runs=50)
    assert watch.warm_up(unsettled, protocol) == run_ms
    assert abs(unsettled.runs - runs) <= 4


def test_a_stopwatch_says_that_it_gets_on() -> None:
    network = Clocked([1.0])
    signs = []
    watch = Stopwatch(network.clock_ns, lambda: signs.append(network.runs))
    watch.visit(network, 5.0)
    watch.warm_up(network, Protocol(warmup_min_runs=10, warmup_min_seconds=0.0))
    assert signs == [5, *range(6, 16)]
