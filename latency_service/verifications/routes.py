"""Routes of verifications, and of jobs with their results."""

from __future__ import annotations

from typing import Annotated

from fastapi import Body

from latency_service.auth.access import access
from latency_service.auth.audit import Audit
from latency_service.jobs.schemas import JobView
from latency_service.verifications import service, views
from latency_service.verifications.schemas import VerifyRequest
from latency_service.web.answers import errors
from latency_service.web.deps import Config, ReadSession, WriteSession
from latency_service.web.routing import Router

router = Router(prefix="/v1", tags=["jobs"])

VERIFY_EXAMPLE = {
    "delivered": {
        "summary": "measure an uploaded file",
        "value": {
            "device": "laptop",
            "model_sha256": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "space_id": "2c26b46b68ff",
            "widths": [12, 24, 40],
        },
    }
}


@router.post(
    "/verifications",
    status_code=201,
    dependencies=access("submit"),
    responses=errors(404, 409),
)
def create_verification(
    body: Annotated[VerifyRequest, Body(openapi_examples=VERIFY_EXAMPLE)],
    session: WriteSession,
    settings: Config,
    trail: Audit,
) -> JobView:
    """Measure a delivered file (uploaded before) on a device. The job's result names the
    measurement.
    """
    job_id = service.create(session, settings, body)
    trail.record(session, "verification.create", job_id)
    return views.get(session, job_id)


@router.get("/jobs/{job_id}", dependencies=access("read"))
def show_job(job_id: str, session: ReadSession) -> JobView:
    """One job, its attempts, and its result or failure."""
    return views.get(session, job_id)
