"""Whether the service lives, whether it is ready, and its figures for Prometheus."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from prometheus_client import generate_latest
from pydantic import BaseModel

from latency_service.db.engine import Database
from latency_service.db.migrate import head_revision
from latency_service.web.answers import COMMON_ERRORS
from latency_service.web.readiness import Readiness

router = APIRouter(tags=["health"])
#: The application says who may read it.
metrics_router = APIRouter(tags=["health"], responses=COMMON_ERRORS)
TEXT = "text/plain; version=0.0.4; charset=utf-8"


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process lives."""
    return {"status": "ok"}


class Ready(BaseModel):
    """Whether the service can do its work."""

    #: ``ready``, or the code of what is in the way.
    status: str
    database: str
    revision: str | None = None
    message: str | None = None
    cure: str | None = None


@router.get("/readyz", responses={503: {"model": Ready, "description": "not ready, and why"}})
def readyz(request: Request, response: Response) -> Ready:
    """The database answers, is migrated and can be written."""
    database: Database = request.app.state.database
    readiness: Readiness = request.app.state.readiness
    obstacle = readiness.obstacle()
    if obstacle is None:
        return Ready(status="ready", database=database.dialect, revision=head_revision())
    response.status_code = 503
    return Ready(
        status=obstacle.code,
        database=database.dialect,
        message=obstacle.message,
        cure=obstacle.cure,
    )


@metrics_router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(request: Request) -> Response:
    """Figures for Prometheus."""
    return Response(generate_latest(request.app.state.registry), media_type=TEXT)
