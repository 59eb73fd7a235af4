"""Distance of delivered files from their budgets, as measured: 4 networks, 5 budgets.

Each case is one whole pruning job on this machine with untrained weights and uniform widths: how
close a delivery gets depends on the predictor, the lattice and the closed loop, not on what the
network has learnt. Every finished case is kept under ``runs/benchmarks``, so that a stopped run
resumes.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from benchmarks.support.harness import Bar, Outcome, at_least, at_most
from benchmarks.support.predictors import machine_folder
from benchmarks.support.untrained_jobs import NETWORKS, SHARES, prune_untrained
from pruning_client.errors import PruningError
from pruning_client.reports.schema import Report
from pruning_client.service.embedded import Embedded, embedded_service


def run(quick: bool) -> Outcome:
    """Run every case (one of them when quick); finished ones are reused."""
    wanted = (
        [("resnet20", 0.6)] if quick else [(name, share) for share in SHARES for name in NETWORKS]
    )
    folder = machine_folder(quick)
    cases = []
    with embedded_service(folder / "service") as service:
        for number, (name, share) in enumerate(wanted, 1):
            case = _case(service, folder / "budget" / f"{name}-{share:g}", name, share, quick)
            cases.append(case)
            print(f"{number}/{len(wanted)} {_line(case)}", flush=True)
    return Outcome(bars=_bars(cases, len(wanted)), data={"cases": cases})


def _case(service: Embedded, folder: Path, name: str, share: float, quick: bool) -> dict[str, Any]:
    path = folder / "report.json"
    if not path.exists():
        try:
            prune_untrained(service, name, share, quick, folder)
        except PruningError as error:
            return {"network": name, "share": share, "refused": error.message}
    report = Report.model_validate_json(path.read_text())
    return {
        "network": name,
        "share": share,
        "refused": None,
        "budget_ms": report.budget_ms,
        "measured_ms": report.pruned.latency_ms,
        "lower_ms": report.pruned.lower_ms,
        "upper_ms": report.pruned.upper_ms,
        "over_percent": report.over_percent,
        "verifications": len(report.verifications),
        "predictor_mape": report.predictor.mape,
        "measurements": report.predictor.measurements,
        "seconds": sum(report.timings_seconds.values()),
    }


def _line(case: dict[str, Any]) -> str:
    named = f"{case['network']} at {case['share']:.1%}"
    if case["refused"]:
        return f"{named}: refused, {case['refused']}"
    return (
        f"{named}: {case['measured_ms']:.4g} ms for {case['budget_ms']:.4g} ms "
        f"({case['over_percent']:+.2f} %), "
        f"{case['verifications']} verifications, {case['seconds']:.0f} s"
    )


def _bars(cases: list[dict[str, Any]], wanted: int) -> list[Bar]:
    done = [case for case in cases if not case["refused"]]
    bars = [at_least("cases with a delivery", len(done), wanted, "cases")]
    if done:
        off = [case["over_percent"] for case in done]
        bars += [
            at_most("median distance from the budget", statistics.median(map(abs, off)), 1.5, "%"),
            at_most("largest excess over the budget", max(off), 2, "%"),
            at_most(
                "verification measurements, most",
                max(case["verifications"] for case in done),
                10,
                "files",
            ),
        ]
    return bars
