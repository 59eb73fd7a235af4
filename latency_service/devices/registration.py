"""Agents register: a new one with an enrolment token, a known one with its own.

An enrolment token registers one agent, once. Whoever holds one cannot take over a device that
exists, unless an admin has bound the token to that device.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.orm import Session

from latency_service.auth import service as auth_service
from latency_service.auth.authenticator import Principal
from latency_service.core.errors import Conflict
from latency_service.db.base import insert_unless_known
from latency_service.devices import repository
from latency_service.devices.identity import IDS, INSTANCE, other_ids, other_machine
from latency_service.devices.models import Agent, Device
from latency_service.devices.schemas import Cadence, RegisterRequest, RegisterResponse
from latency_service.settings import Settings

RENAME = (
    "Start this machine's agent under a name of its own with an enrolment token: "
    "latency-service agent --server URL --token TOKEN --name NAME."
)


def register(
    session: Session,
    settings: Settings,
    cadence: Cadence,
    enrolment_id: str,
    request: RegisterRequest,
) -> RegisterResponse:
    """Register a new agent; its device is created if the name is new. The agent that has used the
    enrolment token may ask again, because the answer got lost: it gets the same agent.

    Raises:
        Unauthorised: the enrolment token is not valid any more.
        Conflict: the token has been used (code `enrolment_used`), is for another device
            (`other_device`), or is not bound to this one, which exists (`device_exists`); or
            another machine uses this name (`another_machine`).
    """
    enrolment = auth_service.open_enrolment(session, enrolment_id)
    key = request.registration_key
    if enrolment.agent_id is not None:
        auth_service.check_repeated(session, settings, enrolment, key)
        return _register_repeated(session, settings, cadence, enrolment.agent_id, request)
    device = _device_for(session, enrolment.device, request)
    agent = Agent(kind="device", device_id=device.id, **_described(request))
    session.add(agent)
    _retire_upgraded(session, device.id, request.runtime_version)
    device.last_seen_at = repository.now(session)
    session.flush()
    auth_service.use_enrolment(session, settings, enrolment, agent.id, key)
    token = auth_service.issue_agent_token(session, settings, agent.id, device.name)
    return _registered(cadence, agent, device, token)


def register_again(
    session: Session,
    settings: Settings,
    cadence: Cadence,
    principal: Principal,
    token: str,
    request: RegisterRequest,
) -> RegisterResponse:
    """Register an agent again after a restart or an upgrade: its description is replaced. It gets
    a new secret if that of `token` is old.

    Raises:
        Conflict: the agent names another device, or its state folder was copied to another
            machine (code `another_machine`).
    """
    agent = repository.agent(session, str(principal.agent_id))
    device = _describe_again(session, agent, request)
    fresh = auth_service.rotate_if_old(session, settings, principal.token_id)
    return _registered(cadence, agent, device, fresh or token)


def is_displaced(latest: str | None, instance: str | None) -> bool:
    """Whether another process, `latest`, has registered as this agent after process `instance`:
    both use copies of one state folder.
    """
    return None not in (latest, instance) and latest != instance


def _register_repeated(
    session: Session, settings: Settings, cadence: Cadence, agent_id: str, request: RegisterRequest
) -> RegisterResponse:
    agent = repository.agent(session, agent_id)
    device = _describe_again(session, agent, request)
    token = auth_service.replace_agent_secret(session, settings, agent_id)
    return _registered(cadence, agent, device, token)


def _device_for(session: Session, bound: str | None, request: RegisterRequest) -> Device:
    """The device that an enrolment token lets an agent register."""
    name = request.device
    if bound not in (None, name):
        raise Conflict(
            f"The enrolment token is for device {bound!r}, not {name!r}.",
            f"Start the agent with --name {bound}, or create another enrolment token.",
            code="other_device",
        )
    created = Device(name=name)
    if repository.device_named(session, name) is None and insert_unless_known(session, created):
        return created
    if bound is None:
        raise Conflict(
            f"There is a device {name!r} already, and the enrolment token is not bound to it.",
            "Give this machine another --name. If it is that device, let an admin create the "
            f"enrolment token with: latency-service enrolments create --device {name}",
            code="device_exists",
        )
    known = repository.device_named(session, name)
    assert known is not None, "devices are never deleted"
    _check_same_machine(session, known, request)
    return known


def _describe_again(session: Session, agent: Agent, request: RegisterRequest) -> Device:
    """Replace what is known of an agent; its device."""
    if (difference := other_ids(agent.facts, _facts(request))) is not None:
        raise Conflict(
            f"This machine uses the state of an agent of device {request.device!r} that runs on "
            f"another machine: {difference}. The state folder, or the whole disk, was copied.",
            f"{RENAME} Before that, remove identity.json from the agent's state folder.",
            code="another_machine",
        )
    device = session.get_one(Device, agent.device_id)
    if device.name != request.device:
        raise Conflict(
            f"This agent belongs to device {device.name!r}, not {request.device!r}.",
            "Register under the old name, or as a new agent with an enrolment token.",
        )
    for name, value in _described(request).items():
        setattr(agent, name, value)
    _retire_upgraded(session, device.id, request.runtime_version)
    repository.touch(session, agent.id)
    return device


def _retire_upgraded(session: Session, device_id: str, runtime_version: str) -> None:
    """Make targets with another ONNX Runtime version stale at once, before the first new
    measurement.
    """
    for target in repository.targets_of(session, [device_id]):
        if (
            target.is_current
            and target.facts.get("onnxruntime", runtime_version) != runtime_version
        ):
            target.is_current = False
    session.flush()


def _check_same_machine(session: Session, device: Device, request: RegisterRequest) -> None:
    if device.imported_from is not None:
        raise Conflict(
            f"The name {device.name!r} belongs to measurements that were imported.",
            RENAME,
            code="another_machine",
        )
    known = [agent.facts for agent in repository.agents_of(session, [device.id])]
    differences = [other_machine(facts, _facts(request)) for facts in known]
    if differences and all(differences):
        raise Conflict(
            f"Device {device.name!r} is another machine: {differences[0]}. Measurements of two "
            "machines under one name would be mixed.",
            RENAME,
            code="another_machine",
        )


def _facts(request: RegisterRequest) -> dict[str, Any]:
    """Facts about its machine and process that an agent's row stores."""
    return {**request.facts, IDS: request.hardware_ids, INSTANCE: request.instance}


def _described(request: RegisterRequest) -> dict[str, object]:
    apart = {"device", "hardware_ids", "instance", "registration_key"}
    return {**request.model_dump(exclude=apart), "facts": _facts(request)}


def _registered(cadence: Cadence, agent: Agent, device: Device, token: str) -> RegisterResponse:
    return RegisterResponse(
        agent_id=agent.id,
        agent_token=token,
        device_id=device.id,
        cadence=cadence,
    )
