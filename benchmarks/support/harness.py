"""One form for every benchmark: bars, a table, and a JSON file with machine, versions, date."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import psutil
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parents[1] / "results"
_PACKAGES = (
    "latency-service",
    "numpy",
    "onnx",
    "onnxruntime",
    "torch",
    "torch-pruning",
    "scikit-learn",
    "sqlalchemy",
    "fastapi",
    "uvicorn",
)


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One claim, its limit and the measured value."""

    bar: str
    value: float
    limit: float
    unit: str
    holds: bool


def at_most(bar: str, value: float, limit: float, unit: str) -> Bar:
    return Bar(bar=bar, value=value, limit=limit, unit=unit, holds=value <= limit)


def at_least(bar: str, value: float, limit: float, unit: str) -> Bar:
    return Bar(bar=bar, value=value, limit=limit, unit=unit, holds=value >= limit)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of one run: bars, the raw data behind them, and rows to print."""

    bars: list[Bar]
    data: dict[str, Any] = field(default_factory=dict)
    #: Rows of one more table, all with the same keys.
    rows: list[dict[str, str]] = field(default_factory=list)


Benchmark = Callable[[bool], Outcome]


def machine() -> dict[str, Any]:
    """Facts that decide how fast this machine is."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [
            line.split(":", 1)[1].strip()
            for line in cpuinfo.read_text().splitlines()
            if "model name" in line
        ]
        model = names[0] if names else model
    return {
        "processor": model,
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "load_before": round(os.getloadavg()[0], 2),
    }


def circumstances() -> dict[str, Any]:
    """What each case of a long benchmark keeps, since its cases may be of several runs: load at its
    beginning, commit and processor.
    """
    here = machine()
    return {
        "load_before": here["load_before"],
        "commit": commit(),
        "processor": here["processor"],
    }


def versions() -> dict[str, str]:
    """Versions of the software that is measured."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def execute(name: str, run: Benchmark, *, quick: bool, out: Path | None = None) -> Outcome:
    """Run a benchmark, print its bars and write its JSON.

    Args:
        out: file for the JSON; by default `benchmarks/results/NAME.json` for a full run and none
            for a quick one, because committed results come from full runs.
    """
    before = machine()
    outcome = run(quick)
    document = {
        "name": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "machine": before,
        "versions": versions(),
        "quick": quick,
        "bars": [asdict(bar) for bar in outcome.bars],
        "rows": outcome.rows,
        "data": outcome.data,
    }
    target = out or (None if quick else RESULTS / f"{name}.json")
    if target is not None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(json.dumps(document, indent=1, default=float) + "\n")
    _print(name, outcome, target)
    return outcome


def committed(name: str) -> dict[str, Any]:
    """Data of a benchmark's committed result; empty when there is none."""
    path = RESULTS / f"{name}.json"
    data: dict[str, Any] = json.loads(path.read_text())["data"] if path.exists() else {}
    return data


def keep_committed(
    name: str, path_of: Callable[[dict[str, Any]], Path], *, part: str = "cases"
) -> None:
    """Keep the cases of a benchmark's committed result where it keeps those that it has finished:
    a stopped run resumes on a fresh machine.

    Args:
        path_of: the file of a case.
        part: name of the list of cases in the result.
    """
    for case in committed(name).get(part, []):
        path = path_of(case)
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(case))


def commit() -> str | Literal["unknown"]:
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    answer = subprocess.run(
        command, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False
    )
    return answer.stdout.strip() or "unknown"


def _print(name: str, outcome: Outcome, target: Path | None) -> None:
    table = Table(title=f"benchmark {name}")
    for column, justify in (
        ("bar", "left"),
        ("value", "right"),
        ("limit", "right"),
        ("unit", "left"),
        ("holds", "left"),
    ):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for bar in outcome.bars:
        mark = "[green]yes[/]" if bar.holds else "[red]no[/]"
        table.add_row(bar.bar, f"{bar.value:.4g}", f"{bar.limit:.4g}", bar.unit, mark)
    console = Console()
    console.print(table)
    if outcome.rows:
        details = Table(*outcome.rows[0])
        for row in outcome.rows:
            details.add_row(*row.values())
        console.print(details)
    if target is not None:
        console.print(f"written to {target}")
