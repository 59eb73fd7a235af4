"""The bench of a measuring process: its canaries and its reference, and the rounds between their
readings.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from latency_service.agent.measuring import threads
from latency_service.agent.measuring.canaries import (
    CANARIES,
    CANARY_MS,
    SLOWEST_MS,
    Canary,
    build,
    chosen,
)
from latency_service.agent.measuring.interference import Witness, disturbance
from latency_service.agent.measuring.ipc import CanaryReadings, MeasuringFailed
from latency_service.agent.measuring.sessions import Network, open_network
from latency_service.agent.measuring.timing import Stopwatch
from latency_service.devices.schemas import RuntimeConfig
from latency_service.measurements.schemas import Protocol, Round

#: Slowest run of a network that can be measured: three rounds of it take some minutes.
LONGEST_RUN_MS = 10_000.0


class Reading(NamedTuple):
    """One reading of every canary, and of the reference where there is one, ms."""

    canaries: list[float]
    reference: float | None


class Bench:
    """The canaries and the reference of this process, and the readings of them.

    Args:
        cores: that are measured on.
        canaries: names of those to read; None chooses what suits the device.
        reference: network that is read like one more canary.
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
        visit_ms: float = Protocol().round_ms,
    ) -> None:
        self.watch = watch
        self._visit_ms = visit_ms
        self._alone = runtime.model_copy(update={"batch": 1, "precision": "fp32"})
        self._canaries = self._opened(canaries)
        self._reference = reference
        self._witness = Witness(cores, threads=threads.shared() or 1)
        self._began = watch.seconds()
        #: the system's monotonic clock when the rounds' clock began
        self.clock_seconds = time.monotonic()
        self.readings: list[Reading] = []

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
            slow_ms = self.watch.warm_up(self._reference, protocol)
            if slow_ms > LONGEST_RUN_MS:
                print(f"no reference network: {_too_slow(slow_ms)}", file=sys.stderr)
                self._reference = None
        runs_ms = [self.watch.warm_up(network, protocol) for network in networks]
        if runs_ms and max(runs_ms) > LONGEST_RUN_MS:
            raise MeasuringFailed("runtime_timeout", _too_slow(max(runs_ms)))
        return runs_ms

    def read(self) -> Reading:
        canaries = [
            _rounded(self.watch.visit(network, CANARY_MS, canary.least_runs).latency_ms)
            for canary, network in self._canaries
        ]
        self.readings.append(Reading(canaries, self._read_reference()))
        return self.readings[-1]

    def round(self, network: Network, before: Reading) -> Round:
        first = self._witness.look()
        at = self.watch.seconds()
        visit = self.watch.visit(network, self._visit_ms)
        after = self.read()
        last = self._witness.look()
        elapsed_ms = (self.watch.seconds() - at) * 1000
        interrupted = "its fastest runs were interrupted" if visit.interrupted else None
        return Round(
            at_seconds=round(at - self._began, 6),
            latency_ms=_rounded(visit.latency_ms),
            runs=visit.runs,
            before_ms=before.canaries,
            after_ms=after.canaries,
            reference_ms=_both(before.reference, after.reference),
            contenders=max(first.contenders, last.contenders),
            disturbed=disturbance(first, last, elapsed_ms) or interrupted,
        )

    def summary(self) -> CanaryReadings:
        """Readings of the canaries so far."""
        return _summary(self.canaries, [reading.canaries for reading in self.readings])

    def reference_summary(self) -> CanaryReadings | None:
        """Readings of the reference; None without one."""
        table = [[r.reference] for r in self.readings if r.reference is not None]
        return _summary(["reference"], table) if table else None

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


def _summary(canaries: list[str], readings: Sequence[Sequence[float]]) -> CanaryReadings:
    table = np.asarray(readings)
    return CanaryReadings(
        canaries=canaries,
        floor_ms=np.percentile(table, 5, axis=0).tolist(),
        typical_ms=np.median(table, axis=0).tolist(),
        count=len(table),
    )
