"""Routes of devices, enrolment and agents."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from latency_service.auth.authenticator import AgentToken, ApiOnly, RegistrationToken, WithBearer
from latency_service.devices import repository, service
from latency_service.devices.schemas import (
    DeviceView,
    EnrolmentView,
    Forgotten,
    HeartbeatRequest,
    HeartbeatResponse,
    RegisterRequest,
    RegisterResponse,
)
from latency_service.jobs import service as jobs
from latency_service.retention import service as retention
from latency_service.web.deps import Config, ReadSession, WriteSession

router = APIRouter(prefix="/v1", tags=["devices"])


@router.post("/enrolments", status_code=201, dependencies=ApiOnly)
def create_enrolment(session: WriteSession, settings: Config) -> EnrolmentView:
    """Make an enrolment token: with it an agent on another machine registers as a device."""
    return service.enrol(session, settings)


@router.post("/agents/register", status_code=201, dependencies=WithBearer)
def register_agent(
    body: RegisterRequest,
    principal: RegistrationToken,
    request: Request,
    session: WriteSession,
    settings: Config,
) -> RegisterResponse:
    """Register an agent (enrolment token), or tell that it was restarted or upgraded (its own
    token).

    Whatever it, or another agent of that device, was working on is given out again at once.
    """
    if principal.agent_id is None:
        answer = service.register(session, settings, body)
    else:
        token = request.headers["authorization"].partition(" ")[2].strip()
        answer = service.register_again(session, settings, principal.agent_id, token, body)
    jobs.abandon(session, settings, jobs.open_attempts_of_device(session, answer.device_id))
    return answer


@router.post("/agents/me/heartbeat", dependencies=WithBearer)
def heartbeat(
    body: HeartbeatRequest, principal: AgentToken, session: WriteSession
) -> HeartbeatResponse:
    """Tell how the agent fares; the answer says whether to go on with the attempt."""
    assert principal.agent_id is not None
    service.heartbeat(session, principal.agent_id, body)
    lost = body.attempt_id is not None and not jobs.is_open(
        session, principal.agent_id, body.attempt_id
    )
    return HeartbeatResponse(command="cancel" if lost else "continue")


@router.get("/devices", dependencies=ApiOnly)
def list_devices(session: ReadSession, settings: Config) -> list[DeviceView]:
    """All devices, by name, with their agents and targets."""
    return service.show_devices(session, settings, repository.devices(session))


@router.get("/devices/{name}", dependencies=ApiOnly)
def show_device(name: str, session: ReadSession, settings: Config) -> DeviceView:
    """One device, by name."""
    return service.show_devices(session, settings, [service.get_device(session, name)])[0]


@router.delete("/devices/{name}/measurements", dependencies=ApiOnly)
def forget_device(
    name: str,
    session: WriteSession,
    confirm: Annotated[str | None, Query(description="the device's name again")] = None,
) -> Forgotten:
    """Delete everything measured on a device, and the predictors and lattices made from it. For
    good.

    Refused while a campaign runs on the device. The device and its agents stay.
    """
    return retention.forget(session, name, confirm)
