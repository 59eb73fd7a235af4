"""The main job end to end, ten runs on a quiet machine and ten beside busy processes.

Each run is the demo of the README in a process and a data directory of its own: wall time, outcome,
latency, accuracy and LPNet's error. Installation is not in the time. A quick run is one run of the
demo's own quick form.

Every finished run is kept under ``runs/benchmarks``, so that a stopped benchmark resumes;
``--parts N`` ends after N runs. The JSON holds what is there.
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

from benchmarks.support.harness import Bar, Outcome, at_most
from benchmarks.support.load import Load
from benchmarks.support.predictors import machine_folder

SCRIPT = Path(__file__).parents[2] / "examples" / "mnist_demo.py"


RUNS = 10
CONDITIONS = ("quiet", "loaded")


def run(quick: bool, parts: int | None = None) -> Outcome:
    """Make the runs that are not there yet.

    Args:
        parts: maximum number of runs to make now; all of them by default.
    """
    folder = machine_folder(quick) / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [
        (condition, number) for number in range(1 if quick else RUNS) for condition in CONDITIONS
    ]
    left = [pair for pair in wanted[: 1 if quick else None] if not _path(folder, *pair).exists()]
    for condition, number in left[:parts]:
        with Load(seed=number) if condition == "loaded" else contextlib.nullcontext():
            found = {"condition": condition, **_once(quick)}
        _path(folder, condition, number).write_text(json.dumps(found))
        print(condition, number, found["exit_code"], f"{found['wall_seconds']:.0f} s", flush=True)
    kept = [_path(folder, *pair) for pair in wanted]
    runs = [json.loads(path.read_text()) for path in kept if path.exists()]
    return Outcome(bars=_bars(runs), data={"runs": runs})


def _path(folder: Path, condition: str, number: int) -> Path:
    return folder / f"{condition}-{number}.json"


def _bars(runs: list[dict[str, Any]]) -> list[Bar]:
    failed = sum(run["exit_code"] != 0 for run in runs)
    reports = [run["report"] for run in runs if run["report"]]
    bars = [at_most("runs that did not end met", failed, 0, "runs")]
    if not reports:
        return bars
    lost = max(r["dense"]["accuracy"] - r["pruned"]["accuracy"] for r in reports)
    measured = max(r["predictor"]["measurements"] for r in reports)
    bars += [
        at_most("accuracy lost, worst run", lost, 2, "points"),
        at_most("measurements", measured, 150, "architectures"),
    ]
    for condition, limit, error in (("quiet", 480, 6), ("loaded", 720, 10)):
        mine = [run for run in runs if run["condition"] == condition and run["report"]]
        if mine:
            longest = max(run["wall_seconds"] for run in mine)
            worst = max(run["report"]["predictor"]["mape"] for run in mine)
            bars += [
                at_most(f"{condition}: longest run", longest, limit, "s"),
                at_most(f"{condition}: LPNet's held-out error, worst run", worst, error, "% MAPE"),
            ]
    return bars


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
        "report": _short(report),
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
