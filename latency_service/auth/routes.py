"""Route of enrolment."""

from __future__ import annotations

from fastapi import APIRouter

from latency_service.auth import service
from latency_service.auth.access import access
from latency_service.auth.schemas import EnrolmentView
from latency_service.web.deps import Config, WriteSession

router = APIRouter(prefix="/v1", tags=["devices"], dependencies=access("admin"))


@router.post("/enrolments", status_code=201)
def create_enrolment(session: WriteSession, settings: Config) -> EnrolmentView:
    """Make an enrolment token: with it an agent on another machine registers as a device."""
    return service.enrol(session, settings)
