"""Checks: what a quarantined device measures to show that it has recovered.

A check is a job of one architecture, the full-width network of a search space that the device has
measured before. Its result carries a calibration of the canaries, which `devices.quarantine`
judges. A device that differs from others of its class measures once more what they have measured,
which `measurements.repeats` judges.
"""

from __future__ import annotations

import structlog
from sqlalchemy import BindParameter, ColumnElement, Select, exists, or_, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from latency_service.db.base import utcnow
from latency_service.devices.models import Agent, Device, Target
from latency_service.jobs.models import Job
from latency_service.settings import Settings
from latency_service.spaces.models import Space

log = structlog.get_logger(__name__)

#: A device's id in a statement: a column, or a parameter.
DeviceId = InstrumentedAttribute[str | None] | BindParameter[str]
#: Value of `Job.stage` that tells checks from other work.
STAGE = "check"
#: Before everything else that waits for the device.
PRIORITY = 0
#: How many of its newest jobs are looked through for one with the runtime of the known speed.
_LOOKED_AT = 50


def is_permitted(device_id: DeviceId) -> ColumnElement[bool]:
    """Whether a job may be given to an agent of a device: of a quarantined one only its checks."""
    quarantined = exists().where(Device.id == device_id, Device.quarantined_at.is_not(None))
    # by default only the select next to it is seen
    return or_(Job.stage == STAGE, ~quarantined.correlate_except(Device))


def is_on_trial(device_id: DeviceId) -> ColumnElement[bool]:
    """Whether a device is quarantined until its canaries have recovered, which checks show."""
    return exists().where(Device.id == device_id, Device.quarantine_target_id.is_not(None))


def queue_if_due(session: Session, settings: Settings, agent_id: str) -> None:
    """Queue a check of the agent's device if it is quarantined for its canaries, no check waits,
    and the last one is long enough ago.
    """
    device = session.scalar(_waiting_for_recovery(agent_id, settings.quarantine_check_seconds))
    if device is None:
        return
    target = session.get_one(Target, device.quarantine_target_id)
    check = (
        _check_of_canaries(session, device, target)
        if target.device_id == device.id
        else _check_beside(session, device, target)
    )
    if check is not None:
        session.add(check)
        session.flush()
        log.info("check_queued", device=device.name)


def _waiting_for_recovery(agent_id: str, seconds: float) -> Select[Device]:
    checked = exists().where(
        Job.device_id == Device.id,
        Job.stage == STAGE,
        or_(Job.state.in_(("queued", "leased")), Job.created_at > utcnow(-seconds)),
    )
    mine = select(Device).join(Agent, Agent.device_id == Device.id).where(Agent.id == agent_id)
    return mine.where(Device.quarantine_target_id.is_not(None), ~checked)


def _check_of_canaries(session: Session, device: Device, target: Target) -> Job | None:
    """The full-width network of the space that the device measured last with the target's
    runtime.
    """
    done = select(Job).where(Job.device_id == device.id, Job.state == "done")
    newest = session.scalars(done.order_by(Job.finished_at.desc()).limit(_LOOKED_AT))
    model = next((job for job in newest if job.runtime == target.runtime), None)
    if model is None:
        return None
    space = session.get_one(Space, model.space_id)
    return _check(device, model, [[group["width"] for group in space.groups]])


def _check_beside(session: Session, device: Device, target: Target) -> Job | None:
    """What was repeated last by the device, or from it, once more, to be compared with `target`."""
    own = select(Target.id).where(Target.device_id == device.id)
    repeats = select(Job).where(
        Job.kind == "measure",
        Job.state == "done",
        Job.target_id.is_not(None),
        or_(Job.device_id == device.id, Job.target_id.in_(own)),
    )
    model = session.scalar(repeats.order_by(Job.finished_at.desc()).limit(1))
    return None if model is None else _check(device, model, model.architectures, target.id)


def _check(
    device: Device, model: Job, architectures: list[list[int]], target_id: str | None = None
) -> Job:
    """A check that measures as `model` did."""
    return Job(
        kind="measure",
        stage=STAGE,
        device_id=device.id,
        priority=PRIORITY,
        space_id=model.space_id,
        provider=model.provider,
        opset=model.opset,
        runtime=model.runtime,
        protocol=model.protocol,
        seed=model.seed,
        architectures=architectures,
        target_id=target_id,
    )
