"""Verification: the very file that was delivered, measured on its target."""

from __future__ import annotations

from sqlalchemy.orm import Session

from latency_service.devices import service as devices_service
from latency_service.jobs.models import Job
from latency_service.measurements.schemas import Protocol
from latency_service.model_files import service as model_files_service
from latency_service.settings import Settings
from latency_service.spaces import service as spaces_service
from latency_service.verifications.schemas import VerifyRequest

#: Somebody is waiting for it: before the jobs of campaigns.
PRIORITY = 0


def create(session: Session, settings: Settings, request: VerifyRequest) -> str:
    """Queue the measurement of an uploaded file on a device; the job's id.

    Raises:
        NotFound: no such device, space or uploaded file.
        WidthsError: the given widths do not fit the space.
        Conflict: no agent of the device can run the file (code `version_mismatch`).
    """
    device = devices_service.get_device(session, request.device)
    space = spaces_service.get_space(session, request.space_id)
    model = model_files_service.get_model(session, request.model_sha256)
    if request.widths is not None:
        spaces_service.load(session, space.id).check_widths(request.widths)
    opset = max(model.opset, space.opset)
    devices_service.check_can_run(session, settings, device, request.runtime.provider, opset)
    job = Job(
        kind="verify",
        device_id=device.id,
        priority=PRIORITY,
        space_id=space.id,
        model_sha256=model.sha256,
        provider=request.runtime.provider,
        opset=opset,
        runtime=request.runtime.model_dump(),
        protocol=(request.protocol or Protocol()).model_dump(),
        architectures=[] if request.widths is None else [request.widths],
    )
    session.add(job)
    session.flush()
    return job.id
