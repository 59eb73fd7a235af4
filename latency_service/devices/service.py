"""Devices, their agents, and the targets identified on them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog
from sqlalchemy.orm import Session

from latency_service.core.errors import Conflict, NotFound
from latency_service.devices import quarantine, repository
from latency_service.devices.drift import has_changed, in_common
from latency_service.devices.models import Agent, Comparison, Device, Target
from latency_service.devices.presence import FLEET_SECONDS, cadence_of
from latency_service.devices.schemas import (
    AgentView,
    DeviceView,
    DifferenceView,
    Fingerprint,
    RuntimeConfig,
    TargetView,
)
from latency_service.measurements.schemas import Calibration
from latency_service.settings import Settings

log = structlog.get_logger(__name__)

CURE = (
    "Its predictors are stale. `latency-service predictors list` shows the command that repairs "
    "each of them."
)


#: Cure of a difference from another device of the class.
DIFFERENCE_CURE = (
    "Run latency-service doctor on both. The next campaign of either compares them again, and a "
    "third device of the class shows which of them is wrong. To accept it as it is: "
    "latency-service devices release {name}"
)
#: Number of known devices that the message about an unknown one names.
_NAMED = 10


def get_device(session: Session, name: str) -> Device:
    """Device with this name.

    Raises:
        NotFound: no device has this name; the message names known devices.
    """
    device = repository.device_named(session, name)
    if device is None:
        some = [entry.name for entry in repository.devices(session, limit=_NAMED + 1)]
        names = ", ".join([*some[:_NAMED], *["…"] * (len(some) > _NAMED)]) or "none yet"
        raise NotFound(
            f"There is no device {name!r}; known devices: {names}.",
            "List them with: latency-service devices list. Add one with: latency-service agent "
            "--server URL --token ENROLMENT",
        )
    return device


def show_devices(
    session: Session, settings: Settings, devices: Sequence[Device]
) -> list[DeviceView]:
    ids = [device.id for device in devices]
    since = online_since(session, settings)
    agents: defaultdict[str | None, list[AgentView]] = defaultdict(list)
    for agent in repository.agents_of(session, ids):
        agents[agent.device_id].append(_show_agent(agent, since))
    targets: defaultdict[str, list[TargetView]] = defaultdict(list)
    for target in repository.targets_of(session, ids):
        targets[target.device_id].append(_show_target(target))
    differences: defaultdict[str, list[DifferenceView]] = defaultdict(list)
    names = {device.id: device.name for device in devices}
    for comparison, target, peer in repository.differences_of(session, ids):
        found = _show_difference(comparison, target, names[target.device_id], peer)
        differences[target.device_id].append(found)
    return [
        DeviceView(
            id=device.id,
            name=device.name,
            online=device.last_seen_at is not None and device.last_seen_at >= since,
            created_at=device.created_at,
            last_seen_at=device.last_seen_at,
            quarantine=quarantine.show(device),
            imported_from=device.imported_from,
            differences=differences[device.id],
            agents=agents[device.id],
            targets=targets[device.id],
        )
        for device in devices
    ]


def agents_that_count(session: Session, settings: Settings, device_id: str) -> list[Agent]:
    """Agents whose versions decide what the device can run: those online, or else the one last
    seen.
    """
    agents = repository.agents_of(session, [device_id])
    since = online_since(session, settings)
    return [agent for agent in agents if agent.last_seen_at >= since] or list(agents[:1])


def can_run(agent: Agent, provider: str, opset: int) -> bool:
    return agent.max_opset >= opset and provider in agent.providers


def check_can_run(
    session: Session, settings: Settings, device: Device, provider: str, opset: int
) -> None:
    """Check that an agent of the device can run graphs of this provider and opset.

    Raises:
        Conflict: no agent has the execution provider and a sufficiently new ONNX Runtime (code
            `version_mismatch`).
    """
    if device.imported_from is not None:
        raise Conflict(
            f"Device {device.name!r} was imported from another database; it has no agent here.",
            "Train on what was measured there (latency-service import FOLDER --train), or use a "
            "device of this service: latency-service devices list",
            code="imported",
        )
    agents = agents_that_count(session, settings, device.id)
    if any(can_run(agent, provider, opset) for agent in agents):
        return
    message, cure = explain_mismatch(device.name, agents, provider, opset)
    raise Conflict(message, cure, code="version_mismatch")


def explain_mismatch(
    device: str, agents: Sequence[Agent], provider: str, opset: int
) -> tuple[str, str]:
    """Why no agent of the device can run a graph, and what to do (cause, cure)."""
    capable = [agent for agent in agents if provider in agent.providers]
    if not capable:
        offered = (
            ", ".join(sorted({entry for agent in agents for entry in agent.providers})) or "none"
        )
        return (
            f"Device {device!r} has no {provider}; it offers {offered}.",
            "Request one of these, or install an ONNX Runtime build with that provider.",
        )
    newest = max(capable, key=lambda agent: agent.max_opset)
    return (
        f"The graph needs ONNX opset {opset}, but ONNX Runtime {newest.runtime_version} on "
        f"device {device!r} supports at most opset {newest.max_opset}.",
        "On the device run: pip install --upgrade onnxruntime onnx, and restart the agent. "
        "Or export the space with an older opset.",
    )


def target_for(
    session: Session,
    settings: Settings,
    device_id: str,
    fingerprint: Fingerprint,
    calibration: Calibration,
) -> Target:
    """Target with this fingerprint and canary speed, created if new; it becomes the current one.

    A device whose canaries run at another speed under the same fingerprint (a clock that no fact
    shows) is another target: earlier measurements are stale until the old speed returns. It is
    quarantined if that speed is not to be trusted (`devices.quarantine`).
    """
    is_quarantined = repository.lock_device(session, device_id)
    known = repository.targets_with(session, device_id, fingerprint.digest)
    before = known[0] if known and known[0].is_current else None
    target = next((entry for entry in known if not _has_changed(entry, calibration)), None)
    if target is None:
        generation = 1 + max((entry.generation for entry in known), default=0)
        target = _new_target(session, device_id, fingerprint, calibration, generation)
    else:
        _make_current(session, target)
        _lower_canaries(target, calibration)
    if settings.quarantine and (is_quarantined or target is not before):
        quarantine.review(session.get_one(Device, device_id), before, target)
    session.flush()
    return target


def _new_target(
    session: Session,
    device_id: str,
    fingerprint: Fingerprint,
    calibration: Calibration,
    generation: int,
) -> Target:
    key = fingerprint.runtime.key
    if repository.current_target(session, device_id, key) is not None:
        log.warning(
            "target_changed",
            device=device_id,
            runtime=key,
            same_fingerprint=generation > 1,
            cure=CURE,
        )
    repository.retire_targets(session, device_id, key)
    target = Target(
        device_id=device_id,
        fingerprint=fingerprint.digest,
        runtime_key=key,
        is_current=True,
        generation=generation,
        runtime=fingerprint.runtime.model_dump(),
        facts=dict(fingerprint.facts),
        context=fingerprint.context,
        canaries=calibration.canaries,
        canary_ms=calibration.floor_ms,
    )
    session.add(target)
    return target


def _make_current(session: Session, target: Target) -> None:
    if not target.is_current:
        repository.retire_targets(session, target.device_id, target.runtime_key)
        target.is_current = True


def _has_changed(target: Target, calibration: Calibration) -> bool:
    return has_changed(
        *in_common(target.canaries, target.canary_ms, calibration.canaries, calibration.floor_ms)
    )


def _lower_canaries(target: Target, calibration: Calibration) -> None:
    known = dict(zip(target.canaries, target.canary_ms, strict=True))
    pairs = zip(calibration.canaries, calibration.floor_ms, strict=True)
    lowest_ms = [min(ms, known.get(name, ms)) for name, ms in pairs]
    if target.canaries != calibration.canaries:
        target.canaries = calibration.canaries
    if lowest_ms != target.canary_ms:  # most results tell nothing new: nothing is written then
        target.canary_ms = lowest_ms


def online_since(session: Session, settings: Settings) -> datetime:
    """Agents and devices heard of since then count as online: they may miss two of the heartbeats
    that a fleet of this size sends.
    """
    agents = repository.count_agents(session.connection(), FLEET_SECONDS)
    beat_seconds = cadence_of(agents, settings).heartbeat_seconds
    return repository.now(session) - timedelta(seconds=3 * beat_seconds)


def _show_agent(agent: Agent, since: datetime) -> AgentView:
    return AgentView(
        id=agent.id,
        agent_version=agent.agent_version,
        runtime_version=agent.runtime_version,
        providers=agent.providers,
        state=agent.state,
        online=agent.last_seen_at >= since,
        last_seen_at=agent.last_seen_at,
    )


def _show_difference(
    comparison: Comparison, target: Target, device: str, peer: str
) -> DifferenceView:
    return DifferenceView(
        peer_device=peer,
        runtime=target.runtime_key,
        architectures=comparison.architectures,
        median_percent=comparison.median_percent,
        canary_percent=comparison.canary_percent,
        compared_at=comparison.compared_at,
        cure=DIFFERENCE_CURE.format(name=device),
    )


def _show_target(target: Target) -> TargetView:
    return TargetView(
        id=target.id,
        fingerprint=target.fingerprint,
        runtime=RuntimeConfig.model_validate(target.runtime),
        facts=target.facts,
        canary_ms=target.canary_ms,
        generation=target.generation,
        is_current=target.is_current,
        created_at=target.created_at,
    )
