"""The served model against a tuned kernel ridge, on latencies that others measured.

Needs ``--data FOLDER``. Every cell (table, number of measurements) is the mean over two seeds of
the error on held-out networks; all kinds of model are trained and compared as for graphs, and the
exported file is evaluated.
"""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.support.harness import Outcome, at_least, at_most
from benchmarks.support.measured import predict
from benchmarks.support.third_party import Table, needed, referenced
from latency_service.training.pipeline import train

SEEDS = 2
QUICK_TABLES = ("v100_64", "throughput_tpuv2", "wmt14ende_cpu_xeon")


def run(quick: bool, data: Path | None = None) -> Outcome:
    """All cells with a reference; quick: three tables with 100 measurements, one seed."""
    tables = [
        table for table in referenced(needed(data)) if not quick or table.name in QUICK_TABLES
    ]
    work = [
        (table.name, count, seed)
        for table in tables
        for count in table.references
        for seed in range(1 if quick else SEEDS)
        if not quick or count == 100
    ]
    work.sort(key=lambda entry: -entry[1])  # the longest first, so that all processes end together
    found: list[dict[str, Any]] = []
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for cell in pool.map(partial(_cell, str(needed(data))), *zip(*work, strict=True)):
            found.append(cell)
            print(
                f"  {len(found)}/{len(work)} {cell['table']} n={cell['count']}: "
                f"{cell['mape']:.2f} %",
                flush=True,
            )
    cells = [_mean(table, count, found) for table in tables for count in table.references]
    cells = [cell for cell in cells if cell["seeds"]]
    ratios = np.array([cell["mape"] / cell["reference"] for cell in cells])
    bars = [
        at_least("cells at or under the reference", 100 * float((ratios <= 1).mean()), 90, "%"),
        at_most("largest ratio to the reference", float(ratios.max()), 1.1, "x"),
    ]
    return Outcome(bars=bars, data={"cells": cells, "runs": found})


def _cell(data: str, name: str, count: int, seed: int) -> dict[str, Any]:
    table = next(table for table in referenced(Path(data)) if table.name == name)
    seen, held = table.split(count, seed)
    began = time.perf_counter()
    trained = train(table.training_set(seen, seed))
    found = predict(trained.artifact, table.widths[held])
    measured = table.latency_ms[held]
    return {
        "table": name,
        "count": count,
        "seed": seed,
        "model": trained.sidecar.model,
        "mape": 100 * float(np.abs(found.latency_ms / measured - 1).mean()),
        "covered": 100
        * float(((found.lower_ms <= measured) & (measured <= found.upper_ms)).mean()),
        "cross_validated": {entry.name: entry.mape for entry in trained.sidecar.rivals},
        "seconds": time.perf_counter() - began,
    }


def _mean(table: Table, count: int, found: list[dict[str, Any]]) -> dict[str, Any]:
    mine = [cell for cell in found if (cell["table"], cell["count"]) == (table.name, count)]
    return {
        "table": table.name,
        "count": count,
        "reference": table.references[count],
        "seeds": len(mine),
        "mape": float(np.mean([cell["mape"] for cell in mine])) if mine else None,
        "models": sorted({cell["model"] for cell in mine}),
    }
