"""Difference between two measurements of the same architecture, quiet and beside a random load.

Twenty architectures of a ResNet-20 twice as wide (0.2-3 ms), on three occasions. Each measurement
has its own process, the second at least a minute after the first, with the agent's own profiler and
the protocol's defaults. In the same minute, a fresh process times the same networks in the two
usual ways: median of 50 runs, mean of 200.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.support.harness import Bar, Outcome, at_least, at_most
from benchmarks.support.load import Load
from benchmarks.support.networks import wide_resnet20
from benchmarks.support.peers import naive
from benchmarks.support.subjects import subjects
from latency_service.agent.measuring.profiler import Profiler
from latency_service.devices.schemas import RuntimeConfig
from latency_service.measurements.schemas import Protocol, Summary
from latency_service.measurements.statistics import summarise
from latency_service.spaces.slicing import SearchSpace

GAP_SECONDS = 60.0
#: Share of the rounds with every canary at its floor that makes both measurements of a pair quiet.
#: Where no pair of an occasion is quiet, the limits for quiet ones apply to all of them, which is
#: harder.
QUIET_SHARE = 0.5
WAYS = ("corrected", "median", "mean")


class Visit(NamedTuple):
    """One measurement of all architectures, by our way and the usual ways."""

    summaries: list[Summary]
    naive: dict[str, list[float]]

    def latencies(self, way: str) -> list[float]:
        return (
            [summary.latency_ms for summary in self.summaries]
            if way == "corrected"
            else self.naive[way]
        )


def run(quick: bool) -> Outcome:
    occasions, count, gap = (1, 4, 1.0) if quick else (3, 20, GAP_SECONDS)
    protocol = Protocol(max_rounds=15) if quick else Protocol()
    space, widths = subjects(wide_resnet20, count)
    with tempfile.TemporaryDirectory() as folder:
        bench = _Bench(Profiler(Path(folder)), space, widths, protocol)
        bench.profiler.batch(space.data, widths[:1], RuntimeConfig(), protocol)  # calibrates
        found = [_occasion(bench, gap, seed) for seed in range(occasions)]
    return Outcome(
        bars=list(_bars(found)),
        rows=[row for i, both in enumerate(found) for row in _rows(i + 1, both)],
        data={"widths": widths, "occasions": [_data(both) for both in found]},
    )


class _Bench(NamedTuple):
    """The architectures, the profiler and the protocol."""

    profiler: Profiler
    space: SearchSpace
    widths: list[list[int]]
    protocol: Protocol

    def visit(self, seed: int) -> Visit:
        measured = self.profiler.batch(
            self.space.data, self.widths, RuntimeConfig(), self.protocol, seed=seed
        )
        summaries = [
            summarise(one.rounds, measured.calibration, self.protocol)
            for one in measured.answer.results
        ]
        return Visit(summaries, naive(self.space, self.widths))


Pair = tuple[Visit, Visit]


def _occasion(bench: _Bench, gap: float, seed: int) -> dict[str, Pair]:
    """Both conditions in turn, twice, so that the gap of one is filled by the other."""
    visits: dict[str, list[Visit]] = {"quiet": [], "loaded": []}
    ended = dict.fromkeys(visits, -np.inf)
    for again in range(2):
        for condition in visits:
            time.sleep(max(0.0, gap - (time.monotonic() - ended[condition])))
            load: AbstractContextManager[object] = nullcontext()
            if condition == "loaded":
                load = Load(2 * seed + again)
            with load:
                visits[condition].append(bench.visit(seed=2 * seed + again))
            ended[condition] = time.monotonic()
    return {condition: (both[0], both[1]) for condition, both in visits.items()}


def differences(pair: Pair, way: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Relative difference of each architecture between the two visits, per cent."""
    a, b = (np.array(visit.latencies(way)) for visit in pair)
    return np.asarray(200 * np.abs(a - b) / (a + b))


def overlaps(pair: Pair) -> list[bool]:
    """Whether the two 95 % intervals of each architecture overlap."""
    both = zip(pair[0].summaries, pair[1].summaries, strict=True)
    return [a.lower_ms <= b.upper_ms and b.lower_ms <= a.upper_ms for a, b in both]


def quiet(pair: Pair) -> list[bool]:
    """Whether the canaries were quiet in both visits of each architecture."""
    both = zip(pair[0].summaries, pair[1].summaries, strict=True)
    return [min(a.quiet_share, b.quiet_share) >= QUIET_SHARE for a, b in both]


def _bars(found: Sequence[dict[str, Pair]]) -> Iterator[Bar]:
    for number, both in enumerate(found, start=1):
        every = differences(both["quiet"], "corrected")
        were_quiet = quiet(both["quiet"])
        calm, which = (
            (every[were_quiet], "canaries quiet")
            if any(were_quiet)
            else (every, "no pair quiet, all")
        )
        yield at_most(f"{number}: {which}, median", float(np.median(calm)), 1.0, "%")
        yield at_most(
            f"{number}: {which}, 90th percentile", float(np.percentile(calm, 90)), 2.0, "%"
        )
        yield at_most(f"{number}: no load of ours, median", float(np.median(every)), 2.5, "%")
        loaded = differences(both["loaded"], "corrected")
        yield at_most(f"{number}: loaded, median", float(np.median(loaded)), 2.0, "%")
        yield at_most(
            f"{number}: loaded, 90th percentile", float(np.percentile(loaded, 90)), 5.0, "%"
        )
    share = np.mean(
        [overlap for both in found for pair in both.values() for overlap in overlaps(pair)]
    )
    yield at_least("pairs whose 95 % intervals overlap", 100 * float(share), 90, "%")


def _rows(number: int, both: dict[str, Pair]) -> Iterator[dict[str, str]]:
    for condition, pair in both.items():
        share = np.mean([summary.quiet_share for visit in pair for summary in visit.summaries])
        row = {
            "occasion": str(number),
            "condition": condition,
            "canaries quiet": f"{share:.0%} of rounds",
        }
        for way in WAYS:
            found = differences(pair, way)
            row[f"{way}, median / 90th"] = (
                f"{np.median(found):.2f} / {np.percentile(found, 90):.2f} %"
            )
        yield row


def _data(both: dict[str, Pair]) -> dict[str, Any]:
    return {
        condition: [
            {"corrected": [summary.model_dump() for summary in visit.summaries], **visit.naive}
            for visit in pair
        ]
        for condition, pair in both.items()
    }
