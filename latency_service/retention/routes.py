"""Route of deleting."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query

from latency_service.auth.access import access
from latency_service.auth.audit import Audit
from latency_service.retention import service
from latency_service.retention.schemas import Forgotten
from latency_service.web.answers import errors
from latency_service.web.deps import WriteSession
from latency_service.web.routing import Router

router = Router(prefix="/v1", tags=["devices"], dependencies=access("admin"))


@router.delete("/devices/{name}/measurements", responses=errors(409))
def forget_device(
    name: str,
    session: WriteSession,
    trail: Audit,
    confirm: Annotated[str | None, Query(description="the device's name again")] = None,
) -> Forgotten:
    """Delete everything measured on a device, and the predictors and lattices made from it. For
    good.

    Refused while a campaign runs on the device. The device and its agents stay.
    """
    forgotten = service.forget(session, name, confirm)
    trail.record(session, "device.forget", name)
    return forgotten
