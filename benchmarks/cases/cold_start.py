"""Time from an empty folder to a served predictor, lattice included, with one command.

An empty data directory, `latency-service up`, the file of a search space, and then one command:
``latency-service campaigns create --space FILE --watch``. The clock runs from the start of the
service to the first prediction over HTTP. The network, ResNet-44, takes some 2 ms on one core. The
progress that the command prints is kept: it must name every phase and, at the end, the error of the
predictor.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.support.harness import Bar, Outcome, at_most
from benchmarks.support.networks import resnet44
from pruning_client.graph.space import make_space
from pruning_client.service.embedded import Embedded, embedded_service

LIMIT_SECONDS = 600
#: Names of the phases in the command's output; a line belongs to the first that fits.
PHASES = ("finding the lattice", "measuring", "training the predictor", "done")


def run(quick: bool) -> Outcome:
    name, network = ("tiny", tiny) if quick else ("resnet44", resnet44)
    model, example = network()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.space"
        file.write_bytes(make_space(model, example, name=name).space.data)
        with embedded_service(Path(folder) / "service") as service:
            ready_seconds = time.monotonic() - begun
            print(
                f"service ready after {ready_seconds:.1f} s; one command from here on", flush=True
            )
            lines, exit_code = _campaign(service, Path(folder) / "service", file, begun, quick)
            [view] = service.client.predictors()
            answer = service.client.predict(view.id, [view.sidecar.full_widths])
            seconds = time.monotonic() - begun
            campaign = service.client.campaigns()[0]
    said = [phase for phase in PHASES if any(phase in line for _, line in lines)]
    sure = any(re.search(r"error [\d.]+ %, surely under [\d.]+ %", line) for _, line in lines)
    bars = [
        at_most(f"from nothing to a served predictor of {name}", seconds, LIMIT_SECONDS, "s"),
        Bar(
            bar="phases that the command named",
            value=len(said),
            limit=len(PHASES),
            unit="phases",
            holds=len(said) == len(PHASES),
        ),
        Bar(
            bar="it said how sure the predictor is", value=float(sure), limit=1, unit="", holds=sure
        ),
        Bar(
            bar="exit code of the command", value=exit_code, limit=0, unit="", holds=exit_code == 0
        ),
    ]
    data: dict[str, Any] = {
        "network": name,
        "dense_ms": view.sidecar.dense_ms,
        "first_answer": {"ms": answer.latency_ms[0], "source": answer.source[0]},
        "ready_seconds": ready_seconds,
        "seconds_by_phase": _by_phase(lines, seconds),
        "architectures": campaign.architectures_measured,
        "model": view.sidecar.model,
        "mape": view.sidecar.mape,
        "repeat_difference": view.sidecar.repeat_difference,
        "trained_seconds": view.sidecar.trained_seconds,
        "said": [[round(at, 1), line] for at, line in lines],
    }
    return Outcome(bars=bars, data=data)


def tiny() -> tuple[nn.Module, Tensor]:
    """Two convolutions for 16x16 images and an example input: the whole way in a minute."""
    layers = (nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU())
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))
    return model, torch.randn(1, 3, 16, 16)


def _campaign(
    service: Embedded, data_dir: Path, file: Path, begun: float, quick: bool
) -> tuple[list[tuple[float, str]], int]:
    """Lines of the command, each with its seconds since `begun`, and its exit code."""
    command = [
        sys.executable,
        "-m",
        "latency_service",
        "campaigns",
        "create",
        "--space",
        str(file),
        "--watch",
        "--server",
        service.url,
        *(["--architectures", "24", "--repeats", "4"] if quick else []),
    ]
    environment = os.environ | {"LATENCY_SERVICE_DATA_DIR": str(data_dir), "PYTHONUNBUFFERED": "1"}
    environment.pop("LATENCY_SERVICE_TOKEN", None)
    lines: list[tuple[float, str]] = []
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            lines.append((time.monotonic() - begun, line.rstrip()))
            print(f"{lines[-1][0]:6.1f} s  {line.rstrip()}", flush=True)
    return lines, child.returncode


def _by_phase(lines: list[tuple[float, str]], end: float) -> dict[str, float]:
    """Seconds from each phase's first line to the next phase's."""
    first: dict[str, float] = {}
    for at, line in lines:
        phase = next((phase for phase in PHASES if line.startswith(phase)), None)
        if phase is not None:
            first.setdefault(phase, at)
    ends = [*first.items(), ("end", end)]
    return {phase: after - at for (phase, at), (_, after) in pairwise(ends)}
