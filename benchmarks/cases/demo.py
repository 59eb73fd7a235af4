"""The main job end to end, ten runs on a quiet machine and ten beside busy processes.

Each run is the demo of the README in a process and a data directory of its own: wall time, latency,
accuracy, LPNet's error, and whether the budget was met. Installation is not in the time. Every
finished run is kept under ``runs/benchmarks``, and taken from the committed result, so that a
stopped benchmark resumes; ``--parts N`` ends after N runs. The JSON holds what is there. A quick
run is one run of the demo's own quick form.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.support.harness import (
    Bar,
    Outcome,
    at_least,
    at_most,
    circumstances,
    keep_committed,
)
from benchmarks.support.load import Load
from benchmarks.support.predictors import machine_folder

SCRIPT = Path(__file__).parents[2] / "examples" / "mnist_demo.py"
#: Longest run of each condition, s.
LIMITS = {"quiet": 480, "loaded": 720}
#: Runs of each condition.
RUNS = 10


def run(quick: bool, parts: int | None = None) -> Outcome:
    """Run the demo as often as is still wanted (once when quick).

    Args:
        parts: maximum number of runs now; all of them by default.
    """
    if quick:
        cases = [_once("quiet", 0, quick=True)]
        return Outcome(bars=_bars(cases, 1), data={"cases": cases})
    folder = machine_folder(quick) / "demo"
    keep_committed("demo", lambda case: _path(folder, case["condition"], case["number"]))
    wanted = [(condition, number) for number in range(RUNS) for condition in LIMITS]
    left = [one for one in wanted if not _path(folder, *one).exists()]
    for condition, number in left[:parts]:
        case = _once(condition, number, quick=False)
        folder.mkdir(parents=True, exist_ok=True)
        _path(folder, condition, number).write_text(json.dumps(case))
        print(_line(case), flush=True)
    paths = [_path(folder, *one) for one in wanted]
    cases = [json.loads(path.read_text()) for path in paths if path.exists()]
    return Outcome(bars=_bars(cases, RUNS), data={"cases": cases})


def _path(folder: Path, condition: str, number: int) -> Path:
    return folder / f"{condition}-{number}.json"


def _once(condition: str, number: int, *, quick: bool) -> dict[str, Any]:
    about = {
        "condition": condition,
        "number": number,
        **circumstances(),
    }
    load = Load(seed=number) if condition == "loaded" else contextlib.nullcontext()
    with tempfile.TemporaryDirectory() as folder, load:
        out = Path(folder) / "demo"
        command = [sys.executable, str(SCRIPT), "--out", str(out), *(["--quick"] if quick else [])]
        begun = time.monotonic()
        finished = subprocess.run(command, check=False, capture_output=True, text=True)
        wall_seconds = time.monotonic() - begun
        path = out / "report.json"
        report = json.loads(path.read_text()) if path.exists() else None
    return {
        **about,
        "exit_code": finished.returncode,
        "wall_seconds": wall_seconds,
        "report": _short(report),
        "tail": (finished.stdout + finished.stderr)[-2000:] if finished.returncode else "",
    }


def _short(report: dict[str, Any] | None) -> dict[str, Any] | None:
    """What the bars are made of; the trajectories stay out of the committed file."""
    if report is None:
        return None
    return {
        key: report[key]
        for key in (
            "budget_ms",
            "outcome",
            "probability",
            "verification",
            "dense",
            "pruned",
            "predictor",
            "widths",
        )
        if key in report
    }


def _line(case: dict[str, Any]) -> str:
    report = case["report"] or {"outcome": "no report", "probability": None}
    return (
        f"{case['condition']} {case['number']}: exit {case['exit_code']}, {report['outcome']} "
        f"({report['probability']}), {case['wall_seconds']:.0f} s"
    )


def _bars(cases: list[dict[str, Any]], runs: int) -> list[Bar]:
    reports = [case["report"] for case in cases if case["report"]]
    met = sum(
        case["exit_code"] == 0 and case["report"] is not None and case["report"]["outcome"] == "met"
        for case in cases
    )
    counts = Counter(case["condition"] for case in cases)
    bars = [at_least("runs that ended with 0 and met", met, len(cases), "runs")]
    for condition, limit in LIMITS.items():
        seconds = [case["wall_seconds"] for case in cases if case["condition"] == condition]
        if seconds:
            bars += [
                at_least(f"{condition}: runs", counts[condition], runs, "runs"),
                at_most(f"{condition}: longest run", max(seconds), limit, "s"),
            ]
    return bars + (_bars_of_reports(reports) if reports else [])


def _bars_of_reports(reports: list[dict[str, Any]]) -> list[Bar]:
    over = max(100 * (r["pruned"]["latency_ms"] / r["budget_ms"] - 1) for r in reports)
    lost = max(r["dense"]["accuracy"] - r["pruned"]["accuracy"] for r in reports)
    return [
        at_most("measured over budget, worst run", over, 0, "%"),
        at_most("accuracy lost, worst run", lost, 2, "points"),
        at_most(
            "held-out error of LPNet, worst run",
            max(r["predictor"]["mape"] for r in reports),
            6,
            "% MAPE",
        ),
        at_most(
            "measurements",
            max(r["predictor"]["measurements"] for r in reports),
            150,
            "architectures",
        ),
    ]
