"""Routes of the agent protocol, of verifications and of jobs."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

from fastapi import APIRouter, Body, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from latency_service.auth.authenticator import AgentToken, ApiOnly, WithBearer
from latency_service.devices import repository as devices
from latency_service.jobs import results, service, verifications, views
from latency_service.jobs.schemas import Failure, JobView, Lease, ResultAnswer, VerifyRequest
from latency_service.measurements.schemas import ResultBody
from latency_service.web.deps import Config, Data, ReadSession, WriteSession
from latency_service.web.errors import ErrorResponse

protocol = APIRouter(prefix="/v1", tags=["agent protocol"], dependencies=WithBearer)
router = APIRouter(prefix="/v1", tags=["jobs"], dependencies=ApiOnly)


@protocol.post(
    "/leases",
    response_model=Lease,
    responses={204: {"description": "nothing to do", "model": None}},
)
async def lease(
    request: Request,
    principal: AgentToken,
    database: Data,
    settings: Config,
    wait: Annotated[float, Query(ge=0, le=3600, description="seconds to wait for work")] = 0.0,
) -> Response:
    """Ask for work and wait for it up to `wait` seconds (at most what the service allows); 204 when
    there is none.

    While it waits it holds neither a transaction nor a connection to the database. An agent that
    asks is not working: an attempt that it still holds is given out again.
    """
    agent_id = str(principal.agent_id)

    def begin() -> None:
        with database.write() as session:
            service.begin_poll(session, settings, agent_id)
        with database.write() as session:
            devices.touch(session, agent_id)

    polls: dict[str, object] = request.app.state.polls
    mine = polls[agent_id] = object()
    until = time.monotonic() + min(wait, settings.max_wait_seconds)
    await run_in_threadpool(begin)
    while polls.get(agent_id) is mine and not await request.is_disconnected():
        found = await run_in_threadpool(service.next_lease, database, settings, agent_id)
        if found is not None:
            return Response(found.model_dump_json(), media_type="application/json")
        if time.monotonic() >= until or request.app.state.stopping.is_set():
            break
        await asyncio.sleep(min(settings.lease_check_seconds, max(0.0, until - time.monotonic())))
    return Response(status_code=204)


@protocol.post(
    "/attempts/{attempt_id}/renew",
    responses={409: {"model": ErrorResponse, "description": "lost"}, 410: {"model": ErrorResponse}},
)
def renew(
    attempt_id: str, principal: AgentToken, session: WriteSession, settings: Config
) -> dict[str, float]:
    """Prolong the lease."""
    service.renew(session, settings, str(principal.agent_id), attempt_id)
    return {"lease_seconds": settings.lease_seconds}


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
    response.status_code = 201 if answer.outcome == "accepted" else 200
    return answer


@protocol.put("/attempts/{attempt_id}/failure")
def put_failure(
    attempt_id: str, body: Failure, principal: AgentToken, session: WriteSession, settings: Config
) -> dict[str, str]:
    """Give an attempt up. Idempotent."""
    service.fail(session, settings, str(principal.agent_id), attempt_id, body)
    return {"status": "noted"}


VERIFY_EXAMPLE = {
    "delivered": {
        "summary": "measure an uploaded file",
        "value": {
            "device": "laptop",
            "model_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "space_id": "2c26b46b68ff",
            "widths": [12, 24, 40],
        },
    }
}


@router.post("/verifications", status_code=201)
def create_verification(
    body: Annotated[VerifyRequest, Body(openapi_examples=VERIFY_EXAMPLE)],
    session: WriteSession,
    settings: Config,
) -> JobView:
    """Measure a delivered file (uploaded before) on a device. The job's result names the
    measurement.
    """
    return views.get(session, verifications.create(session, settings, body))


@router.get("/jobs/{job_id}")
def show_job(job_id: str, session: ReadSession) -> JobView:
    """One job, its attempts, and its result or failure."""
    return views.get(session, job_id)
