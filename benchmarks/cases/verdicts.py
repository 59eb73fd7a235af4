"""Whether verdicts hold: shares as jobs state them, and as a plain loop finds them afterwards.

Four networks, five budgets, each on a quiet machine and beside busy processes. Each case is one
whole pruning job; then a plain loop alternates the delivered file with the dense one, with no load
of ours.

Every finished case is kept under ``runs/benchmarks``, so that a stopped run resumes; ``--parts N``
ends after N cases. The JSON holds what is there.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.support.alternation import share
from benchmarks.support.harness import Bar, Outcome, at_least, at_most
from benchmarks.support.load import Load
from benchmarks.support.predictors import machine_folder
from benchmarks.support.untrained_jobs import NETWORKS, SHARES, prune_untrained, untrained
from pruning_client.errors import PruningError
from pruning_client.graph.space import export_onnx
from pruning_client.reports.schema import Report
from pruning_client.service.embedded import Embedded, embedded_service

CONDITIONS = ("quiet", "loaded")
#: Duration of the plain loop, s.
_ALTERNATION_SECONDS = 40.0


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One case."""

    condition: str
    network: str
    share: float

    @property
    def name(self) -> str:
        return f"{self.condition}-{self.network}-{self.share:g}"


def run(quick: bool, parts: int | None = None) -> Outcome:
    """Run the cases that are not there yet (one of them when quick).

    Args:
        parts: maximum number of cases to run now; all of them by default.
    """
    folder = machine_folder(quick)
    wanted = _quick() if quick else _all()
    left = [case for case in wanted if not (folder / "verdicts" / f"{case.name}.json").exists()]
    with embedded_service(folder / "service") as service:
        for case in left[:parts]:
            found = _case(service, folder / "verdicts", case, quick)
            print(_line(found), flush=True)
    kept = [folder / "verdicts" / f"{case.name}.json" for case in wanted]
    cases = [json.loads(path.read_text()) for path in kept if path.exists()]
    return Outcome(bars=_bars(cases), data={"cases": cases})


def _quick() -> list[Wanted]:
    return [Wanted(condition="quiet", network="resnet20", share=0.6)]


def _all() -> list[Wanted]:
    """Conditions in turn, so that a part of the cases is of both."""
    return [
        Wanted(condition=condition, network=name, share=share)
        for share in SHARES
        for name in NETWORKS
        for condition in CONDITIONS
    ]


def _case(service: Embedded, folder: Path, wanted: Wanted, quick: bool) -> dict[str, Any]:
    begun = time.monotonic()
    about = {
        "condition": wanted.condition,
        "network": wanted.network,
        "share": wanted.share,
        "load_before": os.getloadavg()[0],
    }
    with tempfile.TemporaryDirectory() as scratch:
        try:
            with Load(seed=0) if wanted.condition == "loaded" else contextlib.nullcontext():
                result = prune_untrained(service, wanted.network, wanted.share, quick)
        except PruningError as error:
            found = {**about, "refused": error.message}
        else:
            seconds = time.monotonic() - begun
            dense = Path(scratch) / "dense.onnx"
            export_onnx(*untrained(wanted.network), dense)
            pruned = result.save(scratch) / "pruned.onnx"
            actual = share(pruned, dense, 2 if quick else _ALTERNATION_SECONDS)
            found = {**about, **_figures(result.report, actual), "seconds": seconds}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{wanted.name}.json").write_text(json.dumps(found))
    return found


def _figures(report: Report, actual: float) -> dict[str, Any]:
    return {
        "refused": None,
        "outcome": report.outcome,
        "probability": report.probability,
        "budget_ms": report.budget_ms,
        "dense_ms": report.dense.latency_ms,
        "measured_ms": report.pruned.latency_ms,
        "lower_ms": report.pruned.lower_ms,
        "upper_ms": report.pruned.upper_ms,
        "over_percent": report.over_percent,
        "stated_share": report.pruned.latency_ms / report.dense.latency_ms,
        "alternated_share": actual,
        "verifications": report.verification.readings,
        "verification_seconds": report.verification.seconds,
        "predictor_mape": report.predictor.mape,
        "measurements": report.predictor.measurements,
    }


def _line(case: dict[str, Any]) -> str:
    named = f"{case['condition']}: {case['network']} at {case['share']:.1%}"
    if case["refused"]:
        return f"{named}: refused, {case['refused']}"
    return (
        f"{named}: {case['outcome']}, {case['over_percent']:+.2f} %, stated "
        f"{case['stated_share']:.4f}, alternated {case['alternated_share']:.4f}, "
        f"{case['verifications']} verifications, {case['seconds']:.0f} s"
    )


def _bars(cases: list[dict[str, Any]]) -> list[Bar]:
    bars = []
    for condition, limit in (("quiet", 1.0), ("loaded", 1.5)):
        mine = [case for case in cases if case["condition"] == condition]
        if mine:
            bars += _bars_of(condition, mine, limit)
    done = [case for case in cases if not case["refused"]]
    if done:
        off = [100 * abs(c["stated_share"] / c["alternated_share"] - 1) for c in done]
        wrong = sum(c["outcome"] == "met" and c["alternated_share"] > c["share"] for c in done)
        bars += [
            at_most("stated share against alternation, median", statistics.median(off), 1, "%"),
            at_most("stated share against alternation, worst", max(off), 2, "%"),
            at_most("met, but over the budget by alternation", wrong, 0, "cases"),
        ]
    return bars


def _bars_of(condition: str, cases: list[dict[str, Any]], limit: float) -> list[Bar]:
    done = [case for case in cases if not case["refused"]]
    met = [case for case in done if case["outcome"] == "met"]
    bars = [at_least(f"{condition}: cases met", len(met), len(cases), "cases")]
    if done:
        below = statistics.median(-case["over_percent"] for case in done)
        over = max(case["over_percent"] for case in done)
        slowest = max(case["seconds"] for case in done)
        bars += [
            at_most(f"{condition}: below the budget, median", below, limit, "%"),
            at_most(f"{condition}: over the budget, worst case", over, 0, "%"),
            at_most(f"{condition}: longest case", slowest, 720, "s"),
        ]
    return bars
