"""The bench of a measuring process: its canaries and its reference, and the visits to networks
between their readings.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from latency_service.agent.measuring import threads
from latency_service.agent.measuring.calibration import LEAST_READINGS, LEAST_REFERENCE_READINGS
from latency_service.agent.measuring.canaries import (
    CANARIES,
    CANARY_MS,
    SLOWEST_MS,
    Canary,
    build,
    chosen,
)
from latency_service.agent.measuring.interference import Moment, Witness, disturbance
from latency_service.agent.measuring.ipc import CanaryReadings, MeasuringFailed
from latency_service.agent.measuring.sessions import Network, open_network
from latency_service.agent.measuring.timing import Stopwatch, Visit
from latency_service.devices.schemas import RuntimeConfig
from latency_service.measurements.correction import QUIET, counting
from latency_service.measurements.schemas import Calibration, Protocol, Round

#: Slowest run of a network that can be measured: three rounds of it take some minutes.
LONGEST_RUN_MS = 10_000.0
#: Visits between two readings of the canaries while the noise does not change, and their time:
#: three of the usual length. Where the last two readings differ, each visit has readings of its
#: own. (Three visits of 25 ms, of networks of 6-14 ms on a noisy machine, repeated worse.)
STEADY_VISITS = 9
STEADY_MS = 20.0
#: Largest relative difference, of any network that shows the inflation, between two readings that
#: agree: that within which a canary is at its floor.
STEADY_AGREES = QUIET
#: Canaries that do not count beside the reference are read in every so many readings: they tell of
#: the machine, not of this moment.
READ_ALL_EVERY = 4
#: The reference's quiet latency may turn out to be higher by this factor than it is known to be:
#: the canaries that would count then are read with those that do.
COUNTING_SLACK = 1.15


class Reading(NamedTuple):
    """The last latency of every canary, and of the reference where there is one, ms."""

    canaries: list[float]
    reference: float | None


class _Visited(NamedTuple):
    """One visit to a network, and what the system told at both ends of it."""

    at_seconds: float
    visit: Visit
    first: Moment
    last: Moment


class Bench:
    """The canaries and the reference of this process, and the readings of them.

    Args:
        cores: that are measured on.
        canaries: names of those to read; None chooses what suits the device.
        reference: network that is read like one more canary.
        calibration: what is known of both; it tells which canaries count beside the reference.
        visit_ms: time in the runs of a network in one round, and of the reference in one reading:
            a shorter visit finds colder caches, which shows of other interference.

    Raises:
        MeasuringFailed: the device is too slow for the fastest canary.
    """

    def __init__(
        self,
        runtime: RuntimeConfig,
        cores: Sequence[int],
        watch: Stopwatch,
        *,
        canaries: Sequence[str] | None = None,
        reference: Network | None = None,
        calibration: Calibration | None = None,
        visit_ms: float = Protocol().round_ms,
    ) -> None:
        self.watch = watch
        self._visit_ms = visit_ms
        self._alone = runtime.model_copy(update={"batch": 1, "precision": "fp32"})
        self._canaries = self._opened(canaries)
        self._reference = reference
        self._calibration = calibration
        #: Which canaries show the inflation of what is measured here: all until `warm_up` tells.
        self._count = [True] * len(self._canaries)
        self._witness = Witness(cores, threads=threads.shared() or 1)
        self._began = watch.seconds()
        #: the system's monotonic clock when the rounds' clock began
        self.clock_seconds = time.monotonic()
        self.readings: list[Reading] = []
        #: Readings of each canary.
        self._columns: list[list[float]] = [[] for _ in self._canaries]
        self._visited: list[_Visited] = []
        self._visits = 0

    @property
    def canaries(self) -> list[str]:
        """Names of the canaries that are read, fastest first."""
        return [canary.name for canary, _ in self._canaries]

    def warm_up(self, protocol: Protocol, networks: Sequence[Network] = ()) -> list[float]:
        """Warm everything up; the fastest run of each of `networks`, ms.

        Raises:
            MeasuringFailed: a run of one of them takes longer than `LONGEST_RUN_MS`.
        """
        for _, canary in self._canaries:
            self.watch.warm_up(canary, protocol)
        if self._reference is not None:
            reference_ms = self.watch.warm_up(self._reference, protocol)
            if reference_ms > LONGEST_RUN_MS:
                print(f"no reference network: {_too_slow(reference_ms)}", file=sys.stderr)
                self._reference = None
            elif self._calibration is not None:
                self._count = self._counting(self._calibration, reference_ms)
        runs_ms = [self.watch.warm_up(network, protocol) for network in networks]
        if runs_ms and max(runs_ms) > LONGEST_RUN_MS:
            raise MeasuringFailed("runtime_timeout", _too_slow(max(runs_ms)))
        return runs_ms

    @property
    def is_due(self) -> bool:
        """Whether the canaries have to be read before the next visit."""
        if not self._visited:
            return False
        if len(self._visited) >= STEADY_VISITS or not self._is_steady():
            return True
        now = self.watch.seconds()
        spent = now - self._visited[0].at_seconds
        last = now - self._visited[-1].at_seconds
        return (spent + last) * 1000 > STEADY_MS

    def read(self) -> Reading:
        """Read the canaries that count, all of them from time to time, and the reference."""
        is_whole = len(self.readings) % READ_ALL_EVERY == 0
        for place, counts in enumerate(self._count):
            if is_whole or counts:
                self._read_canary(place)
        self.readings.append(
            Reading([column[-1] for column in self._columns], self._read_reference())
        )
        return self.readings[-1]

    def visit(self, network: Network) -> None:
        """Run a network for one visit; its round is made by `rounds`."""
        first = self._witness.look()
        at = self.watch.seconds()
        visit = self.watch.visit(network, self._visit_ms)
        self._visits += 1
        self._visited.append(_Visited(at, visit, first, self._witness.look()))

    def rounds(self) -> list[Round]:
        """Read the canaries, and make the rounds of the visits since the reading before, in their
        order.
        """
        before = self.readings[-1]
        after = self.read()
        end = self._witness.look()
        ended = self.watch.seconds()
        visited, self._visited = self._visited, []
        visited[-1] = visited[-1]._replace(last=end)
        return [self._round(one, before, after, end, ended) for one in visited]

    def _round(
        self, one: _Visited, before: Reading, after: Reading, end: Moment, ended: float
    ) -> Round:
        # a stolen tick may be booked after the visit that it was stolen from
        elapsed_ms = (ended - one.at_seconds) * 1000
        interrupted = "its fastest runs were interrupted" if one.visit.interrupted else None
        return Round(
            at_seconds=round(one.at_seconds - self._began, 6),
            latency_ms=_rounded(one.visit.latency_ms),
            runs=one.visit.runs,
            before_ms=before.canaries,
            after_ms=after.canaries,
            reference_ms=_both(before.reference, after.reference),
            contenders=max(one.first.contenders, one.last.contenders),
            disturbed=disturbance(one.first, end, elapsed_ms) or interrupted,
        )

    def complete(self) -> None:
        """Read the canaries that were left out, until each has as many readings as the process has
        visits, or enough for its floor.
        """
        wanted = min(LEAST_READINGS, self._visits + 1)
        for place, column in enumerate(self._columns):
            while len(column) < wanted:
                self._read_canary(place)

    def summary(self) -> CanaryReadings:
        """Readings of the canaries so far."""
        return _summary(self.canaries, self._columns)

    def reference_summary(self) -> CanaryReadings | None:
        """Readings of the reference; None without one."""
        column = [one.reference for one in self.readings if one.reference is not None]
        return _summary(["reference"], [column]) if column else None

    def _counting(self, calibration: Calibration, reference_ms: float) -> list[bool]:
        """Which canaries count beside a reference that took `reference_ms` in this process."""
        known_ms = calibration.reference_ms or reference_ms
        slower = calibration.model_copy(update={"reference_ms": COUNTING_SLACK * known_ms})
        counts = dict(zip(calibration.canaries, map(bool, counting(slower)), strict=True))
        return [counts.get(name, True) for name in self.canaries]

    def _opened(self, names: Sequence[str] | None) -> list[tuple[Canary, Network]]:
        opened: dict[str, Network] = {}

        def latency_ms(canary: Canary) -> float:
            opened[canary.name] = open_network(build(canary), self._alone)
            took_ms = self.watch.visit(opened[canary.name], 0.0, 2).latency_ms
            if canary is CANARIES[0] and took_ms > SLOWEST_MS:
                raise MeasuringFailed(
                    "device_unhealthy",
                    f"a run of the smallest reference network takes {took_ms:.0f} ms on this "
                    f"device, {SLOWEST_MS:.0f} ms is the most with which anything can be measured. "
                    "Stop what else runs on it, or measure on a faster device.",
                )
            return took_ms

        if names is None:
            return [(canary, opened[canary.name]) for canary in chosen(latency_ms)]
        return [
            (canary, open_network(build(canary), self._alone))
            for canary in CANARIES
            if canary.name in names
        ]

    def _read_canary(self, place: int) -> None:
        canary, network = self._canaries[place]
        visit = self.watch.visit(network, CANARY_MS, canary.least_runs)
        self._columns[place].append(_rounded(visit.latency_ms))

    def _is_steady(self) -> bool:
        """Whether the last two readings show the same noise."""
        if len(self.readings) < LEAST_REFERENCE_READINGS:
            return False
        earlier, later = (self._shown(reading) for reading in self.readings[-2:])
        return all(
            abs(after - before) <= STEADY_AGREES * before
            for before, after in zip(earlier, later, strict=True)
        )

    def _shown(self, reading: Reading) -> list[float]:
        """Latencies of the networks that show the inflation."""
        shown = [ms for ms, counts in zip(reading.canaries, self._count, strict=True) if counts]
        return shown if reading.reference is None else [*shown, reading.reference]

    def _read_reference(self) -> float | None:
        if self._reference is None:
            return None
        visit = self.watch.visit(self._reference, self._visit_ms)
        return _rounded(visit.latency_ms)


def _rounded(latency_ms: float) -> float:
    """Six digits: more tell nothing, and would be most of what a result weighs."""
    return float(f"{latency_ms:.6g}")


def _too_slow(run_ms: float) -> str:
    return (
        f"one run takes {run_ms / 1000:.1f} s on this device, {LONGEST_RUN_MS / 1000:.0f} s is the "
        "most that can be measured. Ask for a smaller batch or a smaller network."
    )


def _both(before: float | None, after: float | None) -> tuple[float, float] | None:
    return None if before is None or after is None else (before, after)


def _summary(canaries: list[str], columns: Sequence[Sequence[float]]) -> CanaryReadings:
    """What the readings of each canary show, at least one of each."""
    return CanaryReadings(
        canaries=canaries,
        floor_ms=[float(np.percentile(column, 5)) for column in columns],
        typical_ms=[float(np.median(column)) for column in columns],
        count=min(map(len, columns)),
    )
