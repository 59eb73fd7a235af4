"""The main job end to end, 20 runs, every second one beside busy processes.

Each run is the demo of the README in a process and a data directory of its own. Installation is not
in the time. Every finished run is kept under ``runs/benchmarks``, so that a stopped benchmark
resumes; ``--parts N`` ends after N runs, and the JSON holds what is there. A quick run is one run
of the demo's own quick form.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.support.harness import Bar, Outcome, at_least, at_most
from benchmarks.support.load import Load
from benchmarks.support.predictors import machine_folder

SCRIPT = Path(__file__).parents[2] / "examples" / "mnist_demo.py"
_RUNS = 20
#: Longest run in s, by condition.
_LIMITS = {"quiet": 480, "loaded": 720}


def run(quick: bool, parts: int | None = None) -> Outcome:
    """Make the runs that are not there yet (one when quick).

    Args:
        parts: maximum number of runs to make now; all of them by default.
    """
    folder = machine_folder(quick) / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    conditions = ["quiet"] if quick else list(_LIMITS) * (_RUNS // len(_LIMITS))
    paths = [folder / f"{number:02}-{c}.json" for number, c in enumerate(conditions, 1)]
    left = [pair for pair in zip(paths, conditions, strict=True) if not pair[0].exists()]
    for path, condition in left[:parts]:
        found = _once(condition, quick)
        path.write_text(json.dumps(found))
        print(_line(path.stem, found), flush=True)
    runs = [json.loads(path.read_text()) for path in paths if path.exists()]
    return Outcome(bars=_bars(runs), data={"runs": runs})


def _bars(runs: list[dict[str, Any]]) -> list[Bar]:
    """Bars of the runs with a report, and that every run is one."""
    met = [run for run in runs if run["exit_code"] == 0 and run["report"]["outcome"] == "met"]
    bars = [at_least("runs that end with 0 and met", len(met), len(runs), "runs")]
    for condition, limit in _LIMITS.items():
        seconds = [run["wall_seconds"] for run in runs if run["condition"] == condition]
        if seconds:
            bars.append(at_most(f"{condition}: longest run", max(seconds), limit, "s"))
    reports = [run["report"] for run in runs if run["report"]]
    if reports:
        over = max(100 * (r["pruned"]["latency_ms"] / r["budget_ms"] - 1) for r in reports)
        lost = max(r["dense"]["accuracy"] - r["pruned"]["accuracy"] for r in reports)
        error = max(r["predictor"]["mape"] for r in reports)
        count = max(r["predictor"]["measurements"] for r in reports)
        bars += [
            at_most("measured over budget, worst run", over, 0, "%"),
            at_most("accuracy lost, worst run", lost, 2, "points"),
            at_most("held-out error of LPNet, worst run", error, 6, "% MAPE"),
            at_most("measurements", count, 150, "architectures"),
        ]
    return bars


def _once(condition: str, quick: bool) -> dict[str, Any]:
    load = Load(seed=0) if condition == "loaded" else contextlib.nullcontext()
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "demo"
        command = [sys.executable, str(SCRIPT), "--out", str(out), *(["--quick"] if quick else [])]
        begun = time.monotonic()
        with load:
            finished = subprocess.run(command, check=False, capture_output=True, text=True)
        wall_seconds = time.monotonic() - begun
        path = out / "report.json"
        report = _short(json.loads(path.read_text())) if path.exists() else None
    tail = (finished.stdout + finished.stderr)[-2000:] if finished.returncode else ""
    return {
        "condition": condition,
        "exit_code": finished.returncode,
        "wall_seconds": wall_seconds,
        "report": report,
        "tail": tail,
    }


def _line(name: str, run: dict[str, Any]) -> str:
    report = run["report"]
    if report is None:
        return f"{name}: exit code {run['exit_code']}, {run['wall_seconds']:.0f} s"
    below = 100 * (1 - report["pruned"]["latency_ms"] / report["budget_ms"])
    return (
        f"{name}: {report['outcome']} ({report['probability']:.1%}), {below:.1f} % below, "
        f"{report['pruned']['accuracy']:.1f} % (dense {report['dense']['accuracy']:.1f} %), "
        f"{run['wall_seconds']:.0f} s"
    )


def _short(report: dict[str, Any]) -> dict[str, Any]:
    """What the bars are made of; the trajectories stay out of the committed file."""
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
    }
