"""Distance of delivered files from their budgets, quiet and loaded, and whether verdicts hold.

Four networks, five budgets. Each case is one whole pruning job on this machine with untrained
weights and uniform widths: how close a delivery gets depends on the predictor, the lattice and the
closed loop, not on what the network has learnt. Afterwards a plain loop alternates the delivered
file with the dense one, with no load of ours: the share of the dense latency that the job stated is
compared with what the loop finds.

Every finished case is kept under ``runs/benchmarks``, so that a stopped run resumes; ``--parts N``
ends after N cases. The JSON holds what is there.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.support.alternation import share
from benchmarks.support.harness import Bar, Outcome, at_least, at_most
from benchmarks.support.load import Load
from benchmarks.support.networks import mobilenet_v2, resnet20, resnet56, vgg11
from benchmarks.support.predictors import machine_folder
from pruning_client import PruneResult, prune
from pruning_client.errors import PruningError
from pruning_client.graph.space import export_onnx
from pruning_client.methods.magnitude import Uniform
from pruning_client.reports.schema import Report
from pruning_client.service.campaign import Campaign
from pruning_client.service.embedded import Embedded, embedded_service
from pruning_client.training.config import Training

NETWORKS: dict[str, Callable[[], tuple[nn.Module, Tensor]]] = {
    "resnet20": resnet20,
    "resnet56": resnet56,
    "vgg11": vgg11,
    "mobilenet_v2": mobilenet_v2,
}
#: Shares of the dense network's own measured latency.
SHARES = (0.4, 0.525, 0.65, 0.775, 0.9)
CONDITIONS = ("quiet", "loaded")
_IMAGES = 64
#: Duration of the plain loop, s.
_ALTERNATION_SECONDS = 40.0


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One case."""

    condition: str
    network: str
    share: float

    @property
    def name(self) -> str:
        return f"{self.condition}-{self.network}-{self.share:g}"


def run(quick: bool, parts: int | None = None) -> Outcome:
    """Run the cases that are not there yet (one of them when quick).

    Args:
        parts: maximum number of cases to run now; all of them by default.
    """
    folder = machine_folder(quick)
    wanted = _quick() if quick else _all()
    left = [case for case in wanted if not (folder / "budget" / f"{case.name}.json").exists()]
    with embedded_service(folder / "service") as service:
        for case in left[:parts]:
            found = _case(service, folder / "budget", case, quick)
            print(_line(found), flush=True)
    kept = [folder / "budget" / f"{case.name}.json" for case in wanted]
    cases = [json.loads(path.read_text()) for path in kept if path.exists()]
    return Outcome(bars=_bars(cases), data={"cases": cases})


def _quick() -> list[Wanted]:
    return [Wanted(condition="quiet", network="resnet20", share=0.6)]


def _all() -> list[Wanted]:
    """Conditions in turn, so that a part of the cases is of both."""
    return [
        Wanted(condition=condition, network=name, share=share)
        for share in SHARES
        for name in NETWORKS
        for condition in CONDITIONS
    ]


def _case(service: Embedded, folder: Path, wanted: Wanted, quick: bool) -> dict[str, Any]:
    model, example = _network(wanted.network)
    begun = time.monotonic()
    about = {
        "condition": wanted.condition,
        "network": wanted.network,
        "share": wanted.share,
        "load_before": os.getloadavg()[0],
    }
    with tempfile.TemporaryDirectory() as scratch:
        try:
            with Load(seed=0) if wanted.condition == "loaded" else contextlib.nullcontext():
                result = _prune(service, model, wanted, quick)
        except PruningError as error:
            found = {**about, "refused": error.message}
        else:
            seconds = time.monotonic() - begun
            dense = Path(scratch) / "dense.onnx"
            export_onnx(model, example, dense)
            pruned = result.save(scratch) / "pruned.onnx"
            actual = share(pruned, dense, 2 if quick else _ALTERNATION_SECONDS)
            found = {**about, **_figures(result.report, actual), "seconds": seconds}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{wanted.name}.json").write_text(json.dumps(found))
    return found


def _network(name: str) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model, example = NETWORKS[name]()
    return model.eval(), example


def _prune(service: Embedded, model: nn.Module, wanted: Wanted, quick: bool) -> PruneResult:
    random = torch.Generator().manual_seed(0)
    images = torch.rand(_IMAGES, 3, 32, 32, generator=random), torch.arange(_IMAGES) % 10
    return prune(
        model,
        images,
        budget=f"{100 * wanted.share:g}%",
        target=service.device,
        method=Uniform(),
        training=Training(epochs=0, recalibration_batches=1, batch_size=32),
        campaign=Campaign(architectures=24 if quick else 100, repeats=4 if quick else 10),
        client=service.client,
    )


def _figures(report: Report, actual: float) -> dict[str, Any]:
    return {
        "refused": None,
        "outcome": report.outcome,
        "probability": report.probability,
        "budget_ms": report.budget_ms,
        "dense_ms": report.dense.latency_ms,
        "measured_ms": report.pruned.latency_ms,
        "lower_ms": report.pruned.lower_ms,
        "upper_ms": report.pruned.upper_ms,
        "over_percent": report.over_percent,
        "stated_share": report.pruned.latency_ms / report.dense.latency_ms,
        "alternated_share": actual,
        "verifications": report.verification.readings,
        "verification_seconds": report.verification.seconds,
        "predictor_mape": report.predictor.mape,
        "measurements": report.predictor.measurements,
    }


def _line(case: dict[str, Any]) -> str:
    named = f"{case['condition']}: {case['network']} at {case['share']:.1%}"
    if case["refused"]:
        return f"{named}: refused, {case['refused']}"
    return (
        f"{named}: {case['outcome']}, {case['over_percent']:+.2f} %, stated "
        f"{case['stated_share']:.4f}, alternated {case['alternated_share']:.4f}, "
        f"{case['verifications']} verifications, {case['seconds']:.0f} s"
    )


def _bars(cases: list[dict[str, Any]]) -> list[Bar]:
    bars = []
    for condition, limit in (("quiet", 1.0), ("loaded", 1.5)):
        mine = [case for case in cases if case["condition"] == condition]
        if mine:
            bars += _bars_of(condition, mine, limit)
    done = [case for case in cases if not case["refused"]]
    if done:
        off = [100 * abs(c["stated_share"] / c["alternated_share"] - 1) for c in done]
        wrong = sum(c["outcome"] == "met" and c["alternated_share"] > c["share"] for c in done)
        bars += [
            at_most("stated share against alternation, median", statistics.median(off), 1, "%"),
            at_most("stated share against alternation, worst", max(off), 2, "%"),
            at_most("met, but over the budget by alternation", wrong, 0, "cases"),
        ]
    return bars


def _bars_of(condition: str, cases: list[dict[str, Any]], limit: float) -> list[Bar]:
    done = [case for case in cases if not case["refused"]]
    met = [case for case in done if case["outcome"] == "met"]
    bars = [at_least(f"{condition}: cases met", len(met), len(cases), "cases")]
    if done:
        below = statistics.median(-case["over_percent"] for case in done)
        over = max(case["over_percent"] for case in done)
        slowest = max(case["seconds"] for case in done)
        bars += [
            at_most(f"{condition}: below the budget, median", below, limit, "%"),
            at_most(f"{condition}: over the budget, worst case", over, 0, "%"),
            at_most(f"{condition}: longest case", slowest, 720, "s"),
        ]
    return bars
