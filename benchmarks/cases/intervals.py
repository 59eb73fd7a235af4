"""Share of held-out measurements inside the served 90 % interval.

The spaces of ``lpnet`` with 100 of their measurements and, with ``--data FOLDER``, every table of
``lpnet-third-party`` with 100 and 400. Several draws each: with one calibration set of 100 the
share alone scatters by 3 points, with one of 400 by half of that.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.cases.lpnet import SUBJECTS, split, subject_store
from benchmarks.support.harness import Bar, Outcome
from benchmarks.support.measured import Floats, Measurements, predict
from benchmarks.support.third_party import needed, referenced
from latency_service.training.pipeline import TrainingSet, VectorSet, train

LOWEST = 87.0
HIGHEST = 93.0
TRAINED = 100
#: Number of draws by number of training measurements.
DRAWS = {100: 10, 400: 5}


def run(quick: bool, data: Path | None = None) -> Outcome:
    """Every set; quick: ResNet-20 with few measurements, and one table where a folder is given."""
    work: dict[str, list[Callable[[], float]]] = {}
    for name in ["resnet20"] if quick else SUBJECTS:
        seen, held = split(subject_store(name), quick=quick)
        work[name] = [
            partial(_space, seen, held, seed) for seed in range(2 if quick else DRAWS[TRAINED])
        ]
    for table in [] if data is None else referenced(needed(data)):
        for count in (100,) if quick else (100, 400):
            if not quick or table.name == "wmt14ende_cpu_xeon":
                draws = range(2 if quick else DRAWS[count])
                work[f"{table.name} n={count}"] = [
                    partial(_table, str(data), table.name, count, s) for s in draws
                ]
    bars = []
    found = {}
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        running = {name: [pool.submit(part) for part in parts] for name, parts in work.items()}
        for name, futures in running.items():
            found[name] = [future.result() for future in futures]
            print(
                f"  {len(found)}/{len(work)} {name}: {np.round(found[name], 1).tolist()}",
                flush=True,
            )
            bars.append(_bar(name, float(np.mean(found[name]))))
    return Outcome(bars=bars, data={"covered": found})


def _bar(name: str, covered: float) -> Bar:
    holds = LOWEST <= covered <= HIGHEST
    return Bar(
        bar=f"{name}: held out inside ({LOWEST:g}-{HIGHEST:g} %)",
        value=covered,
        limit=90,
        unit="%",
        holds=holds,
    )


def _space(seen: Measurements, held: Measurements, seed: int) -> float:
    rows = np.random.default_rng(seed).permutation(len(seen.widths))[:TRAINED]
    return _covered(seen.at(rows).training_set(seed), held.widths, held.latency_ms)


def _table(data: str, name: str, count: int, seed: int) -> float:
    table = next(table for table in referenced(Path(data)) if table.name == name)
    rows, held = table.split(count, seed)
    return _covered(table.training_set(rows, seed), table.widths[held], table.latency_ms[held])


def _covered(
    data: TrainingSet | VectorSet, widths: npt.NDArray[np.number], latency_ms: Floats
) -> float:
    found = predict(train(data).artifact, widths)
    return 100 * float(((found.lower_ms <= latency_ms) & (latency_ms <= found.upper_ms)).mean())
