"""A finished job as its report and its files."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from torch import nn

from latency_service.predictors.schemas import PredictorView
from latency_service.runs.schemas import RunRequest
from latency_service.spaces.layers import total_macs
from pruning_client import artefacts
from pruning_client.config import PredictorSource, PruneConfig
from pruning_client.delivery import Delivery
from pruning_client.job import Job
from pruning_client.latency import Predictor
from pruning_client.progress import Step
from pruning_client.report import render
from pruning_client.results import GroupWidth, NetworkFigures, Point, PredictorFigures, Report
from pruning_client.surgery import save_slim
from pruning_client.verify import Measured

_PREDICTED_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class Finished:
    """All that the report is made of."""

    dense: Measured
    dense_accuracy: float
    budget: str
    budget_ms: float
    view: PredictorView
    predictor: Predictor
    delivered: Delivery
    command: str


def write(job: Job, done: Finished) -> Report:
    job.progress(Step(phase="write the report", done=0, total=1))
    save_slim(done.delivered.module, job.traced, done.delivered.keep, job.folder / artefacts.CHECKPOINT)
    written = _report(job, done)
    run = job.client.create_run(
        RunRequest(
            name=written.name, method=written.method, space_id=written.space_id, predictor_id=written.predictor.id,
            budget_ms=written.budget_ms, report=written.model_dump(mode="json"),
        )
    )  # fmt: skip
    written = written.model_copy(update={"run_id": run.id})
    (job.folder / artefacts.REPORT).write_text(written.model_dump_json(indent=2) + "\n")
    (job.folder / artefacts.PAGE).write_text(render(written))
    job.progress(Step(phase="write the report", done=1, total=1))
    return written


def _report(job: Job, done: Finished) -> Report:
    delivered, space = done.delivered, job.traced.space
    widths = [len(index) for index in delivered.keep]
    files = {
        "onnx": artefacts.ONNX,
        "checkpoint": artefacts.CHECKPOINT,
        "report": artefacts.REPORT,
        "page": artefacts.PAGE,
    }
    return Report(
        name=job.name, created_at=datetime.now(UTC), budget_ms=done.budget_ms, budget=done.budget,
        met=delivered.measured.latency_ms <= done.budget_ms,
        over_percent=100 * (delivered.measured.latency_ms / done.budget_ms - 1),
        dense=_figures(job, done.predictor, job.model, job.full, done.dense, done.dense_accuracy),
        pruned=_figures(
            job, done.predictor, delivered.module, widths, delivered.measured, job.evaluate(delivered.module)
        ),
        predictor=_predictor_figures(done.view, job.config.predictor),
        widths=[
            GroupWidth(name=group.name, before=group.width, after=width, members=group.members)
            for group, width in zip(space.groups, widths, strict=True)
        ],
        unprunable=space.manifest.unprunable, device=job.device.name, runtime=job.config.runtime,
        fingerprint=done.view.sidecar.fingerprint, space_id=space.id, method=job.config.method,
        config=_as_json(job.config), seed=job.config.seed, verifications=delivered.correction.log,
        points=_points(job, done), history=delivered.history, denormals_flushed=delivered.exported.denormals_flushed,
        timings_seconds=job.watch.seconds, versions=artefacts.versions(), command=done.command, files=files,
    )  # fmt: skip


def _as_json(config: PruneConfig) -> dict[str, Any]:
    return {**dataclasses.asdict(config), "runtime": config.runtime.model_dump()}


def _figures(
    job: Job, predictor: Predictor, module: nn.Module, widths: Sequence[int], measured: Measured, percent: float
) -> NetworkFigures:
    return NetworkFigures(
        latency_ms=measured.latency_ms, lower_ms=measured.lower_ms, upper_ms=measured.upper_ms,
        predicted_ms=predictor.one_ms(widths), accuracy=percent,
        parameters=sum(p.numel() for p in module.parameters()), macs=round(float(total_macs(job.traced.space, widths))),
    )  # fmt: skip


def _predictor_figures(view: PredictorView, source: PredictorSource) -> PredictorFigures:
    sidecar = view.sidecar
    return PredictorFigures(
        id=view.id, version=view.version, model=sidecar.model, source=source, measurements=sidecar.measurements,
        mape=sidecar.mape, repeat_difference=sidecar.repeat_difference, rivals=sidecar.rivals,
    )  # fmt: skip


def _points(job: Job, done: Finished) -> list[Point]:
    """Every architecture of the space measured on this target, and what the predictor says of it."""
    found = [
        (m.widths, m.summary.latency_ms)
        for m in job.client.measurements(space_id=job.space_id, device=job.device.name)
        if m.widths and m.model_sha256 is None and m.target_id == done.view.target_id and m.summary.verdict == "ok"
    ]
    points: list[Point] = []
    for at in range(0, len(found), _PREDICTED_AT_ONCE):
        part = found[at : at + _PREDICTED_AT_ONCE]
        predicted = done.predictor.latency_ms([widths for widths, _ in part])
        points += [Point(measured_ms=ms, predicted_ms=float(p)) for (_, ms), p in zip(part, predicted, strict=True)]
    return points
