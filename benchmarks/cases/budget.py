"""Distance of delivered files from their budgets, as measured: 4 networks, 5 budgets.

Each case is one whole pruning job on this machine with untrained weights and uniform widths: how
close a delivery gets depends on the predictor, the lattice and the closed loop, not on what the
network has learnt. Every finished case is kept under ``runs/benchmarks``, so that a stopped run
resumes.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.support.harness import Bar, Outcome, at_least, at_most
from benchmarks.support.networks import mobilenet_v2, resnet20, resnet56, vgg11
from benchmarks.support.predictors import machine_folder
from pruning_client import prune
from pruning_client.errors import PruningError
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
_IMAGES = 64


def run(quick: bool) -> Outcome:
    """Run every case (one of them when quick); finished ones are reused."""
    wanted = (
        [("resnet20", 0.6)] if quick else [(name, share) for share in SHARES for name in NETWORKS]
    )
    folder = machine_folder(quick)
    cases = []
    with embedded_service(folder / "service") as service:
        for number, (name, share) in enumerate(wanted, 1):
            case = _case(service, folder / "budget" / f"{name}-{share:g}", name, share, quick)
            cases.append(case)
            print(f"{number}/{len(wanted)} {_line(case)}", flush=True)
    return Outcome(bars=_bars(cases, len(wanted)), data={"cases": cases})


def _case(service: Embedded, folder: Path, name: str, share: float, quick: bool) -> dict[str, Any]:
    path = folder / "report.json"
    if not path.exists():
        try:
            _prune(service, folder, name, share, quick)
        except PruningError as error:
            return {"network": name, "share": share, "refused": error.message}
    report = Report.model_validate_json(path.read_text())
    return {
        "network": name,
        "share": share,
        "refused": None,
        "budget_ms": report.budget_ms,
        "measured_ms": report.pruned.latency_ms,
        "lower_ms": report.pruned.lower_ms,
        "upper_ms": report.pruned.upper_ms,
        "over_percent": report.over_percent,
        "verifications": len(report.verifications),
        "predictor_mape": report.predictor.mape,
        "measurements": report.predictor.measurements,
        "seconds": sum(report.timings_seconds.values()),
    }


def _prune(service: Embedded, folder: Path, name: str, share: float, quick: bool) -> None:
    torch.manual_seed(0)
    model, _ = NETWORKS[name]()
    random = torch.Generator().manual_seed(0)
    images = torch.rand(_IMAGES, 3, 32, 32, generator=random), torch.arange(_IMAGES) % 10
    prune(
        model,
        images,
        budget=f"{100 * share:g}%",
        target=service.device,
        method=Uniform(),
        training=Training(epochs=0, recalibration_batches=1, batch_size=32),
        campaign=Campaign(architectures=24 if quick else 100, repeats=4 if quick else 10),
        client=service.client,
        out_dir=folder,
    )


def _line(case: dict[str, Any]) -> str:
    named = f"{case['network']} at {case['share']:.1%}"
    if case["refused"]:
        return f"{named}: refused, {case['refused']}"
    return (
        f"{named}: {case['measured_ms']:.4g} ms for {case['budget_ms']:.4g} ms "
        f"({case['over_percent']:+.2f} %), "
        f"{case['verifications']} verifications, {case['seconds']:.0f} s"
    )


def _bars(cases: list[dict[str, Any]], wanted: int) -> list[Bar]:
    done = [case for case in cases if not case["refused"]]
    bars = [at_least("cases with a delivery", len(done), wanted, "cases")]
    if done:
        off = [case["over_percent"] for case in done]
        bars += [
            at_most("median distance from the budget", statistics.median(map(abs, off)), 1.5, "%"),
            at_most("largest excess over the budget", max(off), 2, "%"),
            at_most(
                "verification measurements, most",
                max(case["verifications"] for case in done),
                10,
                "files",
            ),
        ]
    return bars
