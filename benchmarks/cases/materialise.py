"""Time to materialise one architecture as a graph, against exporting it with torch.

Both produce the bytes of an ONNX file with the same channels; making the pruned torch model is not
counted. Rounds alternate, so that a busy machine slows both; the faster of torch's two exporters
counts. Then both graphs run on the same input and have to agree.
"""

from __future__ import annotations

import io
import logging
import statistics
import time
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.support.harness import Bar, Outcome, at_least, at_most
from benchmarks.support.networks import resnet18, resnet20
from latency_service.spaces.slicing import SearchSpace, materialise
from pruning_client.graph import proof
from pruning_client.graph.space import Traced, make_space, trace
from pruning_client.graph.surgery import slim

_NETWORKS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "resnet20": resnet20,
    "resnet18": resnet18,
}
_MATERIALISED_PER_ROUND = 20


def run(quick: bool) -> Outcome:
    """Compare on ResNet-20 (quick) or on ResNet-20 and ResNet-18."""
    torch.manual_seed(0)
    names = ["resnet20"] if quick else list(_NETWORKS)
    data = {name: _compare(*_NETWORKS[name](), rounds=2 if quick else 5) for name in names}
    bars = [bar for name in names for bar in _bars(name, data[name])]
    return Outcome(bars=bars, data=data)


def _bars(name: str, seconds: dict[str, Any]) -> list[Bar]:
    exported = min(seconds["export_dynamo_s"], seconds["export_torchscript_s"])
    return [
        at_least(
            f"{name}: times faster than torch.onnx.export",
            exported / seconds["materialise_s"],
            50,
            "x",
        ),
        at_most(
            f"{name}: one architecture, weights by shape", 1e3 * seconds["materialise_s"], 5, "ms"
        ),
        at_most(
            f"{name}: difference of outputs with real weights",
            seconds["difference"],
            1e-5,
            "of the largest",
        ),
        at_most(f"{name}: what is uploaded", seconds["space_bytes"] / 1024, 100, "KiB"),
    ]


def _compare(model: nn.Module, example: Tensor, rounds: int) -> dict[str, Any]:
    twin = proof.redrawn(model)
    traced = make_space(twin, example)
    space = SearchSpace.from_bytes(traced.space.data)
    times: dict[str, list[float]] = {}
    for seed in range(rounds):
        keep = proof.random_keep(space, seed)
        widths = [len(channels) for channels in keep]
        small = slim(twin, traced, keep)
        for _ in range(_MATERIALISED_PER_ROUND):
            _time(times, "materialise_s", partial(_materialise, space, widths))
        _time(
            times,
            "materialise_with_weights_s",
            partial(_materialise, space, widths, keep=keep, weights=traced.weights),
        )
        for exporter, dynamo in (("export_dynamo_s", True), ("export_torchscript_s", False)):
            _time(times, exporter, partial(export, small, example, dynamo=dynamo))
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        **medians,
        "rounds": rounds,
        "groups": len(space.groups),
        "space_bytes": len(space.data),
        "difference": _difference(twin, traced),
    }


def _materialise(*arguments: Any, **options: Any) -> bytes:
    return bytes(materialise(*arguments, **options).SerializeToString())


def export(model: nn.Module, example: Tensor, *, dynamo: bool) -> bytes:
    target = io.BytesIO()
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            program = torch.onnx.export(model, (example,), dynamo=True, verbose=False)
            assert program is not None
            program.save(target)  # type: ignore[arg-type]
        else:
            torch.onnx.export(model, (example,), target, dynamo=False)  # type: ignore[arg-type]
    logging.disable(logging.NOTSET)
    return target.getvalue()


def _difference(model: nn.Module, traced: Traced) -> float:
    """Largest difference between the outputs of the two graphs, relative to the largest output."""
    keep = proof.random_keep(traced.space, seed=99)
    graph = materialise(
        traced.space, [len(channels) for channels in keep], keep=keep, weights=traced.weights
    )
    ours = proof.run_onnx(graph, traced.example)[0]
    theirs = proof.run_onnx(trace(slim(model, traced, keep), traced.example), traced.example)[0]
    return float(np.max(np.abs(ours - theirs)) / np.max(np.abs(theirs)))


def _time(times: dict[str, list[float]], name: str, action: Callable[[], object]) -> None:
    started = time.perf_counter()
    action()
    times.setdefault(name, []).append(time.perf_counter() - started)
