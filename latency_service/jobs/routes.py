"""Routes of the agent protocol, apart from results (`measurements.routes`)."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated

from fastapi import Query, Request, Response
from pydantic import Field, TypeAdapter
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from latency_service.auth.access import AgentToken, RegistrationToken, access, require_scope
from latency_service.auth.audit import Audit, AuditTrail
from latency_service.auth.authenticator import bearer_token
from latency_service.devices import registration
from latency_service.devices.schemas import (
    HeartbeatRequest,
    HeartbeatResponse,
    RegisterRequest,
    RegisterResponse,
)
from latency_service.jobs import repository, service
from latency_service.jobs.schemas import Failure, Lease
from latency_service.jobs.upkeep import Upkeep
from latency_service.jobs.waiting import Poll
from latency_service.settings import Settings
from latency_service.web.answers import errors
from latency_service.web.deps import Config, Data, WriteSession
from latency_service.web.routing import Router, hot_route, validated

router = Router(prefix="/v1", tags=["agent protocol"])

WaitSeconds = Annotated[float, Field(ge=0, le=3600, allow_inf_nan=False)]
_WAIT = TypeAdapter(WaitSeconds)
_is_agent = require_scope("agent")


@router.post(
    "/agents/register",
    status_code=201,
    dependencies=access("enrolment", "agent"),
    responses=errors(409),
)
def register_agent(
    body: RegisterRequest,
    principal: RegistrationToken,
    request: Request,
    session: WriteSession,
    settings: Config,
    trail: Audit,
) -> RegisterResponse:
    """Register an agent (enrolment token), or tell that it was restarted or upgraded (its own
    token).

    Whatever it, or another agent of that device, was working on is given out again at once. An
    enrolment token registers one agent, of a new device unless it is bound to a known one.
    """
    if principal.role == "enrolment":
        cadence = _upkeep(request).presence.cadence
        answer = registration.register(session, settings, cadence, principal.token_id, body)
        trail.record(session, "agent.register", answer.agent_id)
    else:
        answer = _register_again(session, settings, request, trail, body)
    service.abandon(session, settings, service.open_attempts_of_device(session, answer.device_id))
    return answer


def _register_again(
    session: Session,
    settings: Settings,
    request: Request,
    trail: AuditTrail,
    body: RegisterRequest,
) -> RegisterResponse:
    token = bearer_token(request.headers["authorization"])
    cadence = _upkeep(request).presence.cadence
    answer = registration.register_again(session, settings, cadence, trail.principal, token, body)
    if answer.agent_token != token:
        trail.record(session, "token.rotate", trail.principal.token_id)
    return answer


@router.post("/agents/me/heartbeat", dependencies=access("agent"))
def heartbeat(
    body: HeartbeatRequest, principal: AgentToken, database: Data, request: Request
) -> HeartbeatResponse:
    """Tell how the agent fares; the answer says whether to go on with the attempt, and how often to
    ask.
    """
    agent_id = str(principal.agent_id)
    presence = _upkeep(request).presence
    with database.look() as connection:
        seen = repository.heartbeat_view(connection, agent_id, body.attempt_id)
    if registration.is_displaced(seen.instance, body.instance):
        return HeartbeatResponse(command="stop", cadence=presence.cadence)
    presence.note(agent_id, body)
    lost = body.attempt_id is not None and not seen.is_open
    return HeartbeatResponse(command="cancel" if lost else "continue", cadence=presence.cadence)


@router.post(
    "/leases",
    dependencies=access("agent"),
    response_model=Lease,
    responses={204: {"description": "nothing to do", "model": None}},
)
async def lease(
    request: Request,
    principal: AgentToken,
    settings: Config,
    wait: Annotated[WaitSeconds, Query(description="seconds to wait for work")] = 0.0,
) -> Response:
    """Ask for work and wait for it up to `wait` seconds (at most what the service allows); 204 when
    there is none.

    While it waits it holds no thread, no transaction and no connection to the database. An agent
    that asks is not working: an attempt that it still holds is given out again.
    """
    upkeep = _upkeep(request)
    poll = upkeep.polls.begin(str(principal.agent_id))
    until = time.monotonic() + min(wait, settings.max_wait_seconds)
    gone = asyncio.create_task(_end_when_gone(request, poll))
    try:
        found = await _wait_for_lease(upkeep, poll, until)
    finally:
        gone.cancel()
        upkeep.polls.end(poll)
    if found is None:
        return Response(status_code=204)
    return Response(found.model_dump_json(), media_type="application/json")


async def _lease_at_once(request: Request) -> Response:
    principal = await _is_agent(request)
    wait = validated(_WAIT, request.query_params.get("wait", "0"), "query", "wait")
    return await lease(request, principal, request.app.state.settings, wait)


HOT_ROUTES = [hot_route("/v1/leases", _lease_at_once, "POST")]


async def _wait_for_lease(upkeep: Upkeep, poll: Poll, until: float) -> Lease | None:
    device_id, found = await run_in_threadpool(upkeep.first_look, poll.agent_id)
    again = device_id is not None and upkeep.polls.belongs_to(poll, device_id)
    while found is None and (again or await poll.wait(until)):
        again = False
        found = await run_in_threadpool(upkeep.next_lease, poll.agent_id)
    return found


async def _end_when_gone(request: Request, poll: Poll) -> None:
    """End the poll when its client has closed the connection."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
    poll.end()


def _upkeep(request: Request) -> Upkeep:
    upkeep: Upkeep = request.app.state.upkeep
    return upkeep


@router.post(
    "/attempts/{attempt_id}/renew",
    dependencies=access("agent"),
    responses=errors(409, 410),
)
def renew(
    attempt_id: str, principal: AgentToken, database: Data, settings: Config
) -> dict[str, float]:
    """Prolong the lease."""
    with database.change() as connection:
        service.renew(connection, settings, str(principal.agent_id), attempt_id)
    return {"lease_seconds": settings.lease_seconds}


@router.put(
    "/attempts/{attempt_id}/failure", dependencies=access("agent"), responses=errors(409, 410)
)
def put_failure(
    attempt_id: str, body: Failure, principal: AgentToken, session: WriteSession, settings: Config
) -> dict[str, str]:
    """Give an attempt up. Idempotent."""
    service.fail(session, settings, str(principal.agent_id), attempt_id, body)
    return {"status": "noted"}
