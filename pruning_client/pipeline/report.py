"""A finished job as its report and its files."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from torch import nn

from latency_service.predictors.schemas import PredictorView
from latency_service.runs.schemas import RunRequest
from latency_service.spaces.layers import total_macs
from pruning_client.execution import distributed
from pruning_client.execution.progress import ProgressEvent
from pruning_client.graph import checkpoint
from pruning_client.latency.predictor import Predictor
from pruning_client.latency.readings import Evidence, FileMeasurement
from pruning_client.methods.base import Selection
from pruning_client.pipeline import artifacts, cautions
from pruning_client.pipeline.decision import outcome_of
from pruning_client.pipeline.deliver import Delivery
from pruning_client.pipeline.goals import Goal
from pruning_client.pipeline.job import PruningJob
from pruning_client.pipeline.quantisation import NetworkFile
from pruning_client.pipeline.quantisation_settings import Quantisation
from pruning_client.pipeline.result import PruneResult
from pruning_client.pipeline.workshop import AGAIN, AWARE, FINE_TUNE, DeliveredFile
from pruning_client.reports.layer_profile import layer_shares
from pruning_client.reports.schema import (
    FileFigures,
    GroupWidth,
    LayerShare,
    NetworkFigures,
    Picture,
    Point,
    PredictorFigures,
    QuantisedFigures,
    Report,
    TargetFigures,
)
from pruning_client.service.campaign import PredictorSource

_PREDICTED_AT_ONCE = 256


@dataclass(frozen=True, kw_only=True)
class Finished:
    """All that the report is made of."""

    goals: Sequence[Goal]
    #: Budget as the user wrote it.
    budget: str
    delivered: Delivery
    command: str

    @property
    def worst(self) -> int:
        """Index of the target that is nearest to its budget, or furthest beyond it."""
        key = self.delivered.key
        evidence = self.delivered.evidence
        return max(range(len(evidence)), key=lambda k: evidence[k].excess(key).mean)


def write(job: PruningJob, done: Finished) -> PruneResult:
    """Make the report, record it in the service and write the files; the first process does both.

    Of the files only pruned.onnx is in the job's folder before.
    """
    job.progress(ProgressEvent(phase="write the report", done=0, total=1))
    written = job.journal.value("report", Report, lambda: _recorded(job, done))
    delivered = done.delivered.best
    path = job.folder / artifacts.CHECKPOINT
    checkpoint.save(delivered.module, job.traced, delivered.keep, path)
    result = PruneResult(
        module=delivered.module,
        report=written,
        file=delivered.data,
        float_file=delivered.file.float_data if delivered.file.is_quantised else None,
        checkpoint=path.read_bytes(),
    )
    if distributed.rank() == 0:
        result.save(job.folder)
    job.progress(ProgressEvent(phase="write the report", done=1, total=1))
    return result


def _recorded(job: PruningJob, done: Finished) -> Report:
    written = _report(job, done)
    plain = written.model_dump(mode="json")
    if job.recorder is not None:
        return written.model_copy(update={"run_id": job.recorder.finish(plain)})
    run = job.client.create_run(
        RunRequest(
            name=written.name,
            method=written.method,
            space_id=written.space_id,
            predictor_id=written.predictor.id,
            budget_ms=written.budget_ms,
            report=plain,
        )
    )
    return written.model_copy(update={"run_id": run.id})


def _report(job: PruningJob, done: Finished) -> Report:
    _warn(job, done)
    best = done.delivered.best
    space = job.traced.measured.space
    goal = done.goals[done.worst]
    evidence = done.delivered.evidence[done.worst]
    measured = done.delivered.measurements[done.worst]
    files = {
        "onnx": artifacts.ONNX,
        **({"onnx_fp32": artifacts.FLOAT_ONNX} if best.file.is_quantised else {}),
        "checkpoint": artifacts.CHECKPOINT,
        "report": artifacts.REPORT,
        "page": artifacts.PAGE,
    }
    targets = [
        _target(goal, evidence, done.delivered, confidence=job.settings.verify.confidence)
        for goal, evidence in zip(done.goals, done.delivered.evidence, strict=True)
    ]
    return Report(
        name=job.name,
        created_at=datetime.now(UTC),
        budget_ms=evidence.budget_ms,
        budget=done.budget,
        outcome=done.delivered.outcome,
        probability=done.delivered.probability,
        over_percent=100 * (measured.latency_ms / evidence.budget_ms - 1),
        verification=done.delivered.spent,
        warnings=job.warnings,
        dense=_figures(
            job, goal.predictor, job.dense_model, job.dense, job.dense_widths, evidence.dense
        ),
        pruned=_figures(job, goal.predictor, best.module, best.file, best.widths, measured),
        quantised=_quantised(job, done),
        predictor=_predictor_figures(goal.predictor.view, job.settings.campaign.source),
        targets=targets,
        widths=[
            GroupWidth(name=group.name, before=group.width, after=width, members=group.members)
            for group, width in zip(space.groups, best.widths, strict=True)
        ],
        layers=_layers(job, goal, best, evidence.dense, measured),
        unprunable=space.manifest.unprunable,
        device=goal.device.name,
        runtime=goal.runtime,
        fingerprint=goal.predictor.sidecar.fingerprint,
        space_id=space.id,
        method=job.settings.method.name,
        config=job.settings.as_plain(),
        seed=job.settings.training.seed,
        facts=done.delivered.selection.facts,
        pictures=_pictures(done.delivered.selection),
        verifications=done.delivered.verifications,
        points=_points(job, goal),
        history=done.delivered.history,
        denormals_flushed=best.exported.denormals_flushed,
        timings_seconds=job.watch.seconds,
        versions=artifacts.versions(),
        command=done.command,
        files=files,
    )


def _pictures(selection: Selection) -> list[Picture]:
    return [
        Picture(
            title=picture.title,
            note=picture.note,
            png=base64.b64encode(picture.png).decode(),
        )
        for picture in selection.pictures
    ]


def _layers(
    job: PruningJob,
    goal: Goal,
    best: DeliveredFile,
    dense: FileMeasurement,
    measured: FileMeasurement,
) -> list[LayerShare]:
    with job.watch("profile"):
        return layer_shares(
            job.dense.data, dense.latency_ms, best.data, measured.latency_ms, goal.runtime
        )


def _warn(job: PruningJob, done: Finished) -> None:
    """Say what the delivered file shows."""
    delivered = done.delivered
    # the loss of joint training with gates rises as channels are closed
    for phase in (FINE_TUNE, AGAIN, AWARE):
        job.warn(cautions.of_divergence(delivered.history, phase))
    if job.settings.training.recipe.measures_accuracy:
        job.warn(cautions.of_chance(delivered.best.module, job.held_out, "pruned"))
    job.warn(cautions.of_collapse(job.dense.accuracy, delivered.best.file.accuracy))
    plain = delivered.float_measurements or ()
    for goal, *measured in zip(done.goals, delivered.measurements, plain, strict=False):
        job.warn(cautions.of_slow_int8(goal.device.name, *measured))


def _quantised(job: PruningJob, done: Finished) -> QuantisedFigures | None:
    best = done.delivered.best
    if done.delivered.float_measurements is None:
        return None
    measured = done.delivered.float_measurements[done.worst]
    config = job.settings.quantisation or Quantisation()
    return QuantisedFigures(
        calibration=config.calibration,
        images=config.images,
        max_accuracy_drop=config.max_accuracy_drop,
        float_layers=list(best.file.float_layers),
        fp32=FileFigures(
            latency_ms=measured.latency_ms,
            lower_ms=measured.lower_ms,
            upper_ms=measured.upper_ms,
            accuracy=best.file.float_accuracy,
            file_bytes=len(best.file.float_data),
        ),
        dense_fp32_accuracy=job.dense.float_accuracy,
    )


def _target(
    goal: Goal, evidence: Evidence, delivered: Delivery, *, confidence: float
) -> TargetFigures:
    measured = evidence.of(delivered.key)
    excess = evidence.excess(delivered.key)
    return TargetFigures(
        device=goal.device.name,
        runtime=goal.runtime,
        budget_ms=evidence.budget_ms,
        outcome=outcome_of(excess.probability, confidence),
        probability=excess.probability,
        over_percent=100 * (measured.latency_ms / evidence.budget_ms - 1),
        dense_ms=evidence.dense.latency_ms,
        latency_ms=measured.latency_ms,
        lower_ms=measured.lower_ms,
        upper_ms=measured.upper_ms,
        predicted_ms=goal.predictor.one_ms(delivered.best.widths),
        predictor_id=goal.predictor.view.id,
    )


def _figures(
    job: PruningJob,
    predictor: Predictor,
    module: nn.Module,
    file: NetworkFile,
    widths: Sequence[int],
    measured: FileMeasurement,
) -> NetworkFigures:
    return NetworkFigures(
        latency_ms=measured.latency_ms,
        lower_ms=measured.lower_ms,
        upper_ms=measured.upper_ms,
        predicted_ms=predictor.one_ms(widths),
        accuracy=file.accuracy,
        file_bytes=len(file.data),
        parameters=sum(p.numel() for p in job.deployed(module).parameters()),
        macs=round(float(total_macs(job.traced.measured.space, widths))),
    )


def _predictor_figures(view: PredictorView, source: PredictorSource) -> PredictorFigures:
    sidecar = view.sidecar
    return PredictorFigures(
        id=view.id,
        version=view.version,
        model=sidecar.model,
        source=source,
        measurements=sidecar.measurements,
        mape=sidecar.mape,
        repeat_difference=sidecar.repeat_difference,
        rivals=sidecar.rivals,
    )


def _points(job: PruningJob, goal: Goal) -> list[Point]:
    """Every architecture of the space that predictors of this target learn from, and what this one
    says of it.
    """
    found = [
        (m.widths, m.summary.latency_ms)
        for m in job.client.measurements(space_id=job.space_id, device=goal.device.name)
        if m.widths
        and m.model_sha256 is None
        and m.target_id == goal.evidence.dense.target_id
        and m.summary.trainable
    ]
    points: list[Point] = []
    for at in range(0, len(found), _PREDICTED_AT_ONCE):
        part = found[at : at + _PREDICTED_AT_ONCE]
        predicted = goal.predictor.latency_ms([widths for widths, _ in part])
        points += [
            Point(measured_ms=ms, predicted_ms=float(p))
            for (_, ms), p in zip(part, predicted, strict=True)
        ]
    return points
