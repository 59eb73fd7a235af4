"""Routes of measurements."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from latency_service.auth.authenticator import ApiOnly
from latency_service.devices import service as devices
from latency_service.measurements import repository, service
from latency_service.measurements.schemas import MeasurementView
from latency_service.spaces import service as spaces
from latency_service.web.deps import ReadSession

router = APIRouter(prefix="/v1/measurements", tags=["measurements"], dependencies=ApiOnly)


@router.get("")
def list_measurements(
    session: ReadSession,
    space_id: str | None = None,
    device: str | None = None,
    campaign_id: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=1_000_000_000)] = 0,
) -> list[MeasurementView]:
    """Measurements, newest first, without their raw rounds."""
    if device is not None:
        devices.get_device(session, device)
    wanted = spaces.get_space(session, space_id).id if space_id else None
    rows = repository.listed(
        session, space_id=wanted, device=device, campaign_id=campaign_id, limit=limit, offset=offset
    )
    return [service.show(row) for row in rows]


@router.get("/{measurement_id}")
def show_measurement(measurement_id: str, session: ReadSession) -> MeasurementView:
    """One measurement with its raw rounds and their canary readings."""
    return service.get(session, measurement_id)
