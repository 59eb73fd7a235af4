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
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.support.harness import Bar, Outcome, at_least, at_most
from benchmarks.support.networks import resnet44
from latency_service.campaigns.schemas import CampaignView
from latency_service.predictors.schemas import Prediction, PredictorView
from pruning_client.graph.space import make_space
from pruning_client.service.embedded import Embedded, embedded_service

LIMIT_SECONDS = 600
#: Pattern of the line that states the predictor's error.
ERROR_LINE = r"error [\d.]+ %, upper confidence bound [\d.]+ %"
#: Names of the phases in the command's output; a line belongs to the first that fits.
PHASES = ("finding the lattice", "measuring", "training the predictor", "done")


class Journey(NamedTuple):
    """One way from nothing to a served predictor."""

    lines: list[tuple[float, str]]
    exit_code: int
    ready_seconds: float
    seconds: float
    predictor: PredictorView
    answer: Prediction
    campaign: CampaignView


def run(quick: bool) -> Outcome:
    """ResNet-44; quick: two convolutions."""
    name, network = ("tiny", tiny) if quick else ("resnet44", resnet44)
    model, example = network()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.space"
        file.write_bytes(make_space(model, example, name=name).space.data)
        journey = _journey(Path(folder) / "service", file, begun, quick)
    return Outcome(bars=_bars(name, journey), data={"network": name, **_data(journey)})


def _journey(data_dir: Path, file: Path, begun: float, quick: bool) -> Journey:
    with embedded_service(data_dir) as service:
        ready_seconds = time.monotonic() - begun
        print(f"service ready after {ready_seconds:.1f} s; one command from here on", flush=True)
        lines, exit_code = _campaign(service, data_dir, file, begun, quick)
        [view] = service.client.predictors()
        answer = service.client.predict(view.id, [view.sidecar.full_widths])
        return Journey(
            lines=lines,
            exit_code=exit_code,
            ready_seconds=ready_seconds,
            seconds=time.monotonic() - begun,
            predictor=view,
            answer=answer,
            campaign=service.client.campaigns()[0],
        )


def _bars(name: str, journey: Journey) -> list[Bar]:
    text = "\n".join(line for _, line in journey.lines)
    named = sum(phase in text for phase in PHASES)
    certain = float(re.search(ERROR_LINE, text) is not None)
    return [
        at_most(
            f"from nothing to a served predictor of {name}", journey.seconds, LIMIT_SECONDS, "s"
        ),
        at_least("phases that the command named", named, len(PHASES), "phases"),
        at_least("it said how sure the predictor is", certain, 1, ""),
        at_most("exit code of the command", journey.exit_code, 0, ""),
    ]


def _data(journey: Journey) -> dict[str, Any]:
    sidecar = journey.predictor.sidecar
    return {
        "dense_ms": sidecar.dense_ms,
        "first_answer": {"ms": journey.answer.latency_ms[0], "source": journey.answer.source[0]},
        "ready_seconds": journey.ready_seconds,
        "seconds_by_phase": _by_phase(journey.lines, journey.seconds),
        "architectures": journey.campaign.architectures_measured,
        "model": sidecar.model,
        "mape": sidecar.mape,
        "repeat_difference": sidecar.repeat_difference,
        "trained_seconds": sidecar.trained_seconds,
        "said": [[round(at, 1), line] for at, line in journey.lines],
    }


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
