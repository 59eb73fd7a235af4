"""Measurements: from what an agent sends to what is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy.orm import Session

from latency_service.core.errors import NotFound
from latency_service.db.base import new_id
from latency_service.devices import service as devices_service
from latency_service.jobs.facts import JobSpec
from latency_service.measurements import repository
from latency_service.measurements.models import Measurement
from latency_service.measurements.schemas import (
    ArchitectureResult,
    MeasurementView,
    Protocol,
    ResultBody,
    Round,
    Summary,
)
from latency_service.measurements.statistics import summarise
from latency_service.settings import Settings


def summarise_all(body: ResultBody, protocol: dict[str, Any]) -> list[Summary]:
    """The statistic of each result, in their order. Computes for milliseconds each and needs no
    session.
    """
    wanted = Protocol.model_validate(protocol)
    return [summarise(result.rounds, body.calibration, wanted) for result in body.results]


class Stored(NamedTuple):
    """Measurements of one attempt, and what they turned out to be on."""

    measurement_ids: list[str]
    target_id: str


def store(
    session: Session,
    settings: Settings,
    spec: JobSpec,
    attempt_id: str,
    body: ResultBody,
    summaries: Sequence[Summary],
    *,
    counted: bool,
) -> Stored:
    """Store the measurements of one attempt with their raw rounds, under the target of its
    fingerprint.
    """
    assert spec.device_id is not None
    target = devices_service.target_for(
        session, settings, spec.device_id, body.fingerprint, body.calibration
    )
    shared = {
        **_origin(spec),
        "target_id": target.id,
        "attempt_id": attempt_id,
        "counted": counted,
        "calibration": body.calibration.model_dump(),
    }
    rows = [
        {"id": new_id(), **shared, **_own_fields(spec, result), **summary.model_dump()}
        for result, summary in zip(body.results, summaries, strict=True)
    ]
    rows.sort(key=lambda row: row["position"])
    repository.insert(session, rows)
    return Stored([row["id"] for row in rows], target.id)


def _origin(spec: JobSpec) -> dict[str, Any]:
    return {
        "space_id": spec.space_id,
        "campaign_id": spec.campaign_id,
        "job_id": spec.id,
        "model_sha256": spec.model_sha256,
    }


def _own_fields(spec: JobSpec, result: ArchitectureResult) -> dict[str, Any]:
    is_architecture = result.index < len(spec.architectures)
    return {
        "position": result.index,
        "widths": spec.architectures[result.index] if is_architecture else None,
        "stopped": result.stopped,
        "rounds": [one.model_dump() for one in result.rounds],
    }


def get(session: Session, measurement_id: str) -> MeasurementView:
    """One measurement with its raw rounds.

    Raises:
        NotFound: there is none of that id.
    """
    row = repository.measurement(session, measurement_id)
    if row is None:
        raise NotFound(
            f"There is no measurement {measurement_id!r}.", "List them with GET /v1/measurements."
        )
    view = show(row)
    return view.model_copy(update={"rounds": [Round.model_validate(one) for one in row.rounds]})


def show(row: Measurement) -> MeasurementView:
    """One measurement without its rounds."""
    summary = {name: getattr(row, name) for name in Summary.model_fields}
    names = set(MeasurementView.model_fields) - {"summary", "rounds"}
    return MeasurementView(
        summary=Summary(**summary), **{name: getattr(row, name) for name in names}
    )
