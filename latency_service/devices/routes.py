"""Routes of devices."""

from __future__ import annotations

from latency_service.auth.access import access
from latency_service.auth.audit import Audit
from latency_service.devices import quarantine, repository, service
from latency_service.devices.schemas import DeviceView, QuarantineRequest
from latency_service.web.answers import errors
from latency_service.web.deps import Config, Limit, Offset, ReadSession, WriteSession
from latency_service.web.routing import Router

router = Router(prefix="/v1", tags=["devices"], dependencies=access("read"))


@router.get("/devices")
def list_devices(
    session: ReadSession, settings: Config, limit: Limit = 100, offset: Offset = 0
) -> list[DeviceView]:
    """Devices, by name, with their agents and targets."""
    page = repository.devices(session, limit=limit, offset=offset)
    return service.show_devices(session, settings, page)


@router.get("/devices/{name}")
def show_device(name: str, session: ReadSession, settings: Config) -> DeviceView:
    """One device, by name."""
    return service.show_devices(session, settings, [service.get_device(session, name)])[0]


admin = Router(prefix="/v1", tags=["devices"], dependencies=access("admin"))


@admin.post(
    "/devices/{name}/quarantine",
    responses=errors(409),
)
def quarantine_device(
    name: str, body: QuarantineRequest, session: WriteSession, settings: Config, trail: Audit
) -> DeviceView:
    """Give a device no more work until it is released."""
    device = service.get_device(session, name)
    quarantine.begin_by_hand(session, device, body.reason)
    trail.record(session, "device.quarantine", name)
    return service.show_devices(session, settings, [device])[0]


@admin.post("/devices/{name}/release")
def release_device(name: str, session: WriteSession, settings: Config, trail: Audit) -> DeviceView:
    """End a device's quarantine, and accept how it differs from others of its class: it is given
    work again, at the speed that it has now.
    """
    device = service.get_device(session, name)
    quarantine.release(device, "by hand")
    own = [target.id for target in repository.targets_of(session, [device.id])]
    repository.forget_comparisons(session, own)
    trail.record(session, "device.release", name)
    session.flush()
    return service.show_devices(session, settings, [device])[0]
