"""Quarantine: a device that is not trusted measures nothing but checks until it is released.

It begins when the canaries drift under an unchanged fingerprint, when the device differs from the
others of its class (`measurements.repeats`), or when an admin says so. It ends when checks show the
known speed again, or that of the others, or when an admin says so.
"""

from __future__ import annotations

import structlog
from sqlalchemy.orm import Session

from latency_service.core.errors import Conflict
from latency_service.db.base import utcnow
from latency_service.devices.drift import in_common, why_not_trusted
from latency_service.devices.models import Device, Target
from latency_service.devices.schemas import QuarantineView

log = structlog.get_logger(__name__)

CURES = (
    "Look at it (latency-service doctor, on the device): heat, power supply, other programs. It is "
    "released by itself once checks show the known speed again. To accept it as it is: "
    "latency-service devices release {name}. To delete what it measured: "
    "latency-service devices forget {name} --yes"
)
BY_HAND = "When it is in order again: latency-service devices release {name}"


def review(device: Device, before: Target | None, target: Target) -> None:
    """Judge a device by its newest result, which was measured on `target`.

    Args:
        before: the target with the same fingerprint that was current until this result.
    """
    if device.quarantined_at is not None:
        if target.id == device.quarantine_target_id:
            release(device, "its canaries are back at the known speed")
        return
    if before is None or before is target:
        return
    reason = why_not_trusted(
        *in_common(before.canaries, before.canary_ms, target.canaries, target.canary_ms)
    )
    if reason is not None:
        begin(device, reason, before.id)


def begin_by_hand(session: Session, device: Device, reason: str) -> None:
    """Quarantine a device until an admin releases it.

    Raises:
        Conflict: it is quarantined already.
    """
    if device.quarantined_at is not None:
        raise Conflict(
            f"Device {device.name!r} is quarantined already: {device.quarantine_reason}.",
            f"Release it first: latency-service devices release {device.name}",
        )
    begin(device, reason, None)
    session.flush()


def begin(device: Device, reason: str, target_id: str | None) -> None:
    """Quarantine a device.

    Args:
        target_id: target whose speed must return to end it: the device's own, or another device's
            of the same class. It is None if only an admin can end it.
    """
    device.quarantined_at = utcnow()  # the database's clock
    device.quarantine_reason = reason
    device.quarantine_target_id = target_id
    log.warning("device_quarantined", device=device.name, reason=reason)


def release(device: Device, why: str) -> None:
    """End the quarantine of a device, if there is one."""
    if device.quarantined_at is not None:
        log.warning("device_released", device=device.name, why=why)
    device.quarantined_at = None
    device.quarantine_reason = None
    device.quarantine_target_id = None


def show(device: Device) -> QuarantineView | None:
    if device.quarantined_at is None:
        return None
    cure = BY_HAND if device.quarantine_target_id is None else CURES
    return QuarantineView(
        since=device.quarantined_at,
        reason=device.quarantine_reason or "",
        cure=cure.format(name=device.name),
    )
