"""The lattice of this machine found round by round, against a sweep that measures every width.

The sweep's own three verdicts are the truth: dominated, worthwhile, and left out where its
intervals are too wide to decide. The lattice's verdicts on widths that it never measured count like
the rest. The verdicts of plain medians of the same runs are shown beside them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.support.harness import Outcome, at_least, at_most
from latency_service.agent.measuring.profiler import Profiler
from latency_service.devices.schemas import RuntimeConfig
from latency_service.lattices.finding import MARGIN, find_lattice, mark, unclear
from latency_service.lattices.planning import MAX_ROUNDS, next_widths, sweep_protocol
from latency_service.lattices.probes import PROBES, probe_space
from latency_service.lattices.schemas import KindLattice, LatticePoint
from latency_service.measurements.schemas import Protocol, Summary
from latency_service.measurements.statistics import summarise

PROTOCOL = sweep_protocol(Protocol())
#: Widths that are judged; `MORE` wider ones are measured because they dominate the last of these.
JUDGED = range(8, 137)
QUICK_JUDGED = range(8, 65)
MORE = 8


class Found(NamedTuple):
    lattice: KindLattice
    #: Widths that each round measured.
    rounds: list[list[int]]
    seconds: float


def run(quick: bool) -> Outcome:
    """All kinds of layer, widths 8 to 136 (quick: one kind, widths 8 to 64)."""
    kinds, judged = (PROBES[:1], QUICK_JUDGED) if quick else (PROBES, JUDGED)
    with tempfile.TemporaryDirectory(prefix="latency-benchmark-") as folder:
        profiler = Profiler(Path(folder))
        found = {kind: _find(profiler, kind) for kind in kinds}
        data = {kind: _compare(profiler, kind, found[kind], judged) for kind in kinds}
    named, dominated = (
        sum(entry[key] for entry in data.values()) for key in ("named", "dominated")
    )
    wrong = sum(len(entry["wrongly_named"]) for entry in data.values())
    left_out = sum(entry["left_out"] for entry in data.values())
    total = len(kinds) * len(judged)
    bars = [
        at_least(
            f"dominated widths that are named, of {dominated}",
            100 * named / max(1, dominated),
            95,
            "%",
        ),
        at_most(
            f"worthwhile widths named as dominated ({left_out} of {total} left out)",
            wrong,
            0,
            "widths",
        ),
        at_most(
            "lattice of a new target found in",
            sum(entry.seconds for entry in found.values()),
            300,
            "s",
        ),
    ]
    return Outcome(
        bars=bars,
        rows=[_row(kind, entry) for kind, entry in data.items()],
        data={"protocol": PROTOCOL.model_dump(), "kinds": data},
    )


def _row(kind: str, entry: dict[str, Any]) -> dict[str, str]:
    return {
        "kind": kind,
        "step": str(entry["step"]),
        "measured": "+".join(str(len(widths)) for widths in entry["rounds"]),
        "s": f"{entry['seconds']:.0f}",
        "named": f"{entry['named']} of {entry['dominated']}",
        "wrong": f"{len(entry['wrongly_named'])} of {entry['worthwhile']}",
        "by medians": str(len(entry["naive_wrongly_named"])),
        "left out": str(entry["left_out"]),
        "quiet": f"{entry['quiet_share']:.0%}",
    }


def _find(profiler: Profiler, kind: str) -> Found:
    """The lattice as a campaign finds it; the first kind's time includes the calibration."""
    began = time.monotonic()
    points: list[LatticePoint] = []
    rounds: list[list[int]] = []
    while len(rounds) < MAX_ROUNDS and (widths := next_widths(points)):
        rounds.append(widths)
        points += [
            _point(width, one)
            for width, one in zip(widths, _measure(profiler, kind, widths), strict=True)
        ]
    (lattice,) = find_lattice({kind: points}).kinds
    seconds = time.monotonic() - began
    print(
        f"{kind}: step {lattice.step}, rounds of {', '.join(str(len(r)) for r in rounds)} "
        f"widths, {seconds:.0f} s",
        flush=True,
    )
    return Found(lattice, rounds, seconds)


def _compare(profiler: Profiler, kind: str, found: Found, judged: range) -> dict[str, Any]:
    """Measure every width, and judge the lattice by those with a clear verdict."""
    widths = [*judged, *range(judged.stop, judged.stop + MORE)]
    began = time.monotonic()
    summaries = _measure(profiler, kind, widths)
    print(f"{kind}: {len(widths)} widths swept in {time.monotonic() - began:.0f} s", flush=True)
    marked = mark(
        [_point(width, summary) for width, summary in zip(widths, summaries, strict=True)]
    )
    undecided = unclear(marked)
    truth = {p.width: p.dominated for p in marked if p.width in judged and p.width not in undecided}
    dominated = [width for width in truth if truth[width]]
    named = [width for width in truth if not found.lattice.is_worthwhile(width)]
    naive = _by_medians(widths, summaries)
    return {
        "seconds": found.seconds,
        "step": found.lattice.step,
        "rounds": found.rounds,
        "dominated": len(dominated),
        "named": len(set(dominated) & set(named)),
        "missed": sorted(set(dominated) - set(named)),
        "worthwhile": len(truth) - len(dominated),
        "wrongly_named": [w for w in named if not truth[w]],
        "left_out": len(judged) - len(truth),
        "naive_missed": [w for w in dominated if w not in naive],
        "naive_wrongly_named": [w for w in truth if w in naive and not truth[w]],
        "quiet_share": sum(summary.quiet_share for summary in summaries) / len(summaries),
        "sweep": [
            {
                **point.model_dump(),
                "clear": point.width in truth,
                "found": found.lattice.is_worthwhile(point.width),
            }
            for point in marked
        ],
    }


def _by_medians(widths: Sequence[int], summaries: Sequence[Summary]) -> set[int]:
    """Widths dominated according to plain medians, by the same margin."""
    naive = [summary.naive_ms for summary in summaries]
    return {
        width
        for i, width in enumerate(widths[:-1])
        if min(naive[i + 1 :]) < naive[i] * (1 - MARGIN)
    }


def _measure(profiler: Profiler, kind: str, widths: Sequence[int]) -> list[Summary]:
    vectors = [[width] for width in widths]
    measured = profiler.batch(probe_space(kind).data, vectors, RuntimeConfig(), PROTOCOL)
    return [
        summarise(result.rounds, measured.calibration, PROTOCOL)
        for result in measured.answer.results
    ]


def _point(width: int, summary: Summary) -> LatticePoint:
    return LatticePoint(
        width=width,
        latency_ms=summary.latency_ms,
        lower_ms=summary.lower_ms,
        upper_ms=summary.upper_ms,
    )
