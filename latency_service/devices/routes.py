"""Routes of devices."""

from __future__ import annotations

from fastapi import APIRouter

from latency_service.auth.access import access
from latency_service.devices import repository, service
from latency_service.devices.schemas import DeviceView
from latency_service.web.deps import Config, ReadSession

router = APIRouter(prefix="/v1", tags=["devices"], dependencies=access("read"))


@router.get("/devices")
def list_devices(session: ReadSession, settings: Config) -> list[DeviceView]:
    """All devices, by name, with their agents and targets."""
    return service.show_devices(session, settings, repository.devices(session))


@router.get("/devices/{name}")
def show_device(name: str, session: ReadSession, settings: Config) -> DeviceView:
    """One device, by name."""
    return service.show_devices(session, settings, [service.get_device(session, name)])[0]
