"""Timed runs of networks: warm-up that ends by test, and visits."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from statistics import fmean, median
from typing import Protocol as Interface

from latency_service.measurements.schemas import Protocol

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

#: Warm-up ends when two successive windows of this many runs agree this well, or after this long
#: anyway. A network so slow that two windows take longer gets them, within the second limit.
WINDOW_RUNS = 5
WINDOW_AGREES = 0.02
WARM_UP_SECONDS = 1.0
WARM_UP_MOST_SECONDS = 30.0
#: Runs of a network in one visit at least: the first finds cold caches.
LEAST_RUNS = 3
#: An interruption in each so many ms of a run is the system's own housekeeping: it costs a run that
#: is this long some per mille.
HOUSEKEEPING_MS = 100.0


class Runnable(Interface):
    def run(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Visit:
    """The runs of one network, one after another."""

    #: mean of the fastest quartile, ms
    latency_ms: float
    runs: int
    #: whether some of the fastest quartile was taken off the processor while it ran
    interrupted: bool


class Stopwatch:
    """Times runs, and adds up the time that was spent inside them.

    Args:
        clock_ns: time in ns.
        alive: called after each visit and each run of a warm-up, outside of what is timed.
    """

    def __init__(
        self,
        clock_ns: Callable[[], int] = time.perf_counter_ns,
        alive: Callable[[], None] = lambda: None,
    ) -> None:
        self._clock_ns = clock_ns
        self._alive = alive
        self.timed_seconds = 0.0

    def seconds(self) -> float:
        """The clock, s."""
        return self._clock_ns() / 1e9

    def visit(self, network: Runnable, milliseconds: float, least_runs: int = LEAST_RUNS) -> Visit:
        """Run `network` for about `milliseconds`, and at least so often."""
        clock = self._clock_ns
        runs = list[tuple[int, int]]()
        switches = involuntary_switches()
        begin = now = clock()
        end = begin + int(milliseconds * 1e6)
        while now < end or len(runs) < least_runs:
            start = clock()
            network.run()
            now = clock()
            after = involuntary_switches()
            runs.append((now - start, after - switches))
            switches = after
        self.timed_seconds += (now - begin) / 1e9
        self._alive()
        return summary_of(runs)

    def warm_up(self, network: Runnable, protocol: Protocol) -> float:
        """Run until successive windows agree within 2 %, with the protocol's least runs; the time
        of its fastest run, ms. The protocol's least seconds are those of the process: networks
        that are warmed up after others find its core warm.
        """
        clock = self._clock_ns
        times = list[int]()
        begin = now = clock()
        least = (protocol.warmup_min_seconds - self.timed_seconds) * 1e9
        while not (
            len(times) >= protocol.warmup_min_runs and now - begin >= least and settled(times)
        ):
            if len(times) >= LEAST_RUNS and now - begin >= _warm_up_most_ns(times, protocol):
                break
            start = clock()
            network.run()
            now = clock()
            times.append(now - start)
            self._alive()
        self.timed_seconds += (now - begin) / 1e9
        return min(times) / 1e6


def summary_of(runs: Sequence[tuple[int, int]]) -> Visit:
    """The visit that `runs` make: for each its time in ns, and how often it was taken off the
    processor.
    """
    fastest = sorted(runs)[: ceil(len(runs) / 4)]
    return Visit(
        latency_ms=fmean(time_ns for time_ns, _ in fastest) / 1e6,
        runs=len(runs),
        interrupted=any(
            switches > time_ns // (HOUSEKEEPING_MS * 1e6) for time_ns, switches in fastest
        ),
    )


def _warm_up_most_ns(times: Sequence[int], protocol: Protocol) -> float:
    """Longest warm-up of a network whose runs took `times` in ns so far."""
    windows = min(2 * WINDOW_RUNS * min(times), WARM_UP_MOST_SECONDS * 1e9)
    return max(WARM_UP_SECONDS * 1e9, protocol.warmup_min_seconds * 1e9, windows)


def settled(times: Sequence[int]) -> bool:
    """Whether the last two windows agree within 2 %."""
    if len(times) < 2 * WINDOW_RUNS:
        return False
    before = median(times[-2 * WINDOW_RUNS : -WINDOW_RUNS])
    last = median(times[-WINDOW_RUNS:])
    return abs(last - before) <= WINDOW_AGREES * before


def involuntary_switches() -> int:
    """How often this process was taken off a processor so far; 0 where the system does not count
    it.
    """
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw if resource else 0
