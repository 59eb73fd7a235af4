"""Routes of measurements."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from latency_service.auth.authenticator import AgentToken, ApiOnly, WithBearer
from latency_service.core.kill_points import pass_kill_point
from latency_service.devices import service as devices_service
from latency_service.jobs.schemas import ResultAnswer
from latency_service.measurements import repository, results, service
from latency_service.measurements.schemas import MeasurementView, ResultBody
from latency_service.spaces import service as spaces_service
from latency_service.web.deps import Data, ReadSession
from latency_service.web.errors import ErrorResponse

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
        devices_service.get_device(session, device)
    wanted = spaces_service.get_space(session, space_id).id if space_id else None
    rows = repository.listed(
        session, space_id=wanted, device=device, campaign_id=campaign_id, limit=limit, offset=offset
    )
    return [service.show(row) for row in rows]


@router.get("/{measurement_id}")
def show_measurement(measurement_id: str, session: ReadSession) -> MeasurementView:
    """One measurement with its raw rounds and their canary readings."""
    return service.get(session, measurement_id)


protocol = APIRouter(prefix="/v1", tags=["agent protocol"], dependencies=WithBearer)


@protocol.put(
    "/attempts/{attempt_id}/result",
    status_code=201,
    responses={
        200: {"model": ResultAnswer, "description": "repeated, late or superseded"},
        409: {"model": ErrorResponse, "description": "another digest for the same attempt"},
        404: {"model": ErrorResponse, "description": "another agent's attempt"},
    },
)
def put_result(
    attempt_id: str, body: ResultBody, principal: AgentToken, database: Data, response: Response
) -> ResultAnswer:
    """Send what was measured. Idempotent: the same result may be sent again and is stored once."""
    agent_id = str(principal.agent_id)
    with database.read() as session:
        received = results.receive(session, agent_id, attempt_id, body)
    with database.write() as session:
        answer = results.accept(session, agent_id, attempt_id, received)
        pass_kill_point("result-before-commit")
    pass_kill_point("result-stored-before-answer")
    response.status_code = 201 if answer.outcome == "accepted" else 200
    return answer
