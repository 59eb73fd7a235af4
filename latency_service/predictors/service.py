"""Predictors: published whole, listed by space and target."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from sqlalchemy.orm import Session

from latency_service.core.errors import NotFound, NotReady
from latency_service.devices import repository as devices_repository
from latency_service.devices import service as devices_service
from latency_service.devices.schemas import RuntimeConfig
from latency_service.jobs.facts import JobFacts
from latency_service.jobs.models import Job
from latency_service.predictors import freshness, repository
from latency_service.predictors.models import StoredPredictor
from latency_service.predictors.schemas import HeldOut, PredictorView, Sidecar
from latency_service.spaces import service as spaces_service


def publish(
    session: Session,
    job: Job | JobFacts,
    artifact: bytes,
    sidecar: Sidecar,
    measurement_ids: Sequence[str] = (),
    held_out: HeldOut | None = None,
) -> StoredPredictor:
    """Store a trained predictor as the next version for its space and target.

    The caller ends the job in the same transaction, so a predictor is complete or absent.
    """
    assert job.space_id is not None
    assert job.target_id is not None
    devices_repository.lock_device(
        session, devices_repository.target(session, job.target_id).device_id
    )
    row = StoredPredictor(
        space_id=job.space_id,
        target_id=job.target_id,
        job_id=job.id,
        version=repository.next_version(session, job.space_id, job.target_id),
        artifact=artifact,
        artifact_sha256=hashlib.sha256(artifact).hexdigest(),
        sidecar=sidecar.model_dump(),
        measurement_ids=list(measurement_ids),
        held_out=None if held_out is None else held_out.model_dump(),
    )
    session.add(row)
    session.flush()
    return row


def get(session: Session, predictor_id: str) -> StoredPredictor:
    """The predictor with that id.

    Raises:
        NotFound: there is none.
    """
    row = repository.predictor(session, predictor_id)
    if row is None:
        raise NotFound(
            f"There is no predictor {predictor_id!r}.",
            "List them with: latency-service predictors list",
        )
    return row


def listed(
    session: Session,
    *,
    space_id: str | None,
    device: str | None,
    runtime: str | None,
    limit: int,
    offset: int,
) -> list[PredictorView]:
    """Predictors, newest first.

    Raises:
        NotFound: no such space or device.
        NotReady: a space and a device are given, and there is no predictor for them yet.
    """
    wanted = spaces_service.get_space(session, space_id).id if space_id else None
    if device is not None:
        devices_service.get_device(session, device)
    found = repository.predictors(
        session, space_id=wanted, device=device, runtime_key=runtime, limit=limit, offset=offset
    )
    if not found and wanted and device and not offset:
        raise _none_yet(wanted[:12], device, runtime)
    return [show(row) for row in found]


def _none_yet(space: str, device: str, runtime: str | None) -> NotReady:
    place = f"{device} with {runtime}" if runtime else device
    return NotReady(
        f"There is no predictor yet for space {space} on {place}.",
        f"Run: latency-service campaigns create --space {space} --device {device}",
    )


def show_whole(row: StoredPredictor) -> PredictorView:
    """With the measurements that it was trained on, and its held-out predictions."""
    held_out = None if row.held_out is None else HeldOut.model_validate(row.held_out)
    more = {"measurement_ids": row.measurement_ids, "held_out": held_out}
    return show(row).model_copy(update=more)


def show(row: StoredPredictor) -> PredictorView:
    return PredictorView(
        id=row.id,
        space_id=row.space_id,
        target_id=row.target_id,
        device=row.target.device.name,
        runtime=RuntimeConfig.model_validate(row.target.runtime),
        version=row.version,
        stale=not row.target.is_current,
        cure=freshness.cure_of(row),
        created_at=row.created_at,
        artifact_sha256=row.artifact_sha256,
        sidecar=Sidecar.model_validate(row.sidecar),
    )
