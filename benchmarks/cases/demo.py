"""The main job end to end, three runs in a row: wall time, latency, accuracy, LPNet's error.

Each run is the demo of the README in a process and a data directory of its own. Installation is not
in the time. A quick run is one run of the demo's own quick form.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.support.harness import Bar, Outcome, at_most

SCRIPT = Path(__file__).parents[2] / "examples" / "mnist_demo.py"


def run(quick: bool) -> Outcome:
    runs = [_once(quick) for _ in range(1 if quick else 3)]
    failed = sum(run["exit_code"] != 0 for run in runs)
    reports = [run["report"] for run in runs if run["report"]]
    bars = [Bar(bar="runs that failed", value=failed, limit=0, unit="runs", holds=not failed)]
    if reports:
        over = max(100 * (r["pruned"]["latency_ms"] / r["budget_ms"] - 1) for r in reports)
        lost = max(r["dense"]["accuracy"] - r["pruned"]["accuracy"] for r in reports)
        bars += [
            at_most("longest run", max(run["wall_seconds"] for run in runs), 480, "s"),
            at_most("measured over budget, worst run", over, 3, "%"),
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
    return Outcome(
        bars=bars, data={"runs": [run | {"report": _short(run["report"])} for run in runs]}
    )


def _once(quick: bool) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "demo"
        command = [sys.executable, str(SCRIPT), "--out", str(out), *(["--quick"] if quick else [])]
        begun = time.monotonic()
        finished = subprocess.run(command, check=False, capture_output=True, text=True)
        wall_seconds = time.monotonic() - begun
        path = out / "report.json"
        report = json.loads(path.read_text()) if path.exists() else None
    tail = (finished.stdout + finished.stderr)[-2000:] if finished.returncode else ""
    return {
        "exit_code": finished.returncode,
        "wall_seconds": wall_seconds,
        "report": report,
        "tail": tail,
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
