"""Routes of search spaces."""

from __future__ import annotations

from fastapi import Request, Response
from starlette.concurrency import run_in_threadpool

from latency_service.auth.access import access
from latency_service.auth.audit import Audit
from latency_service.spaces import repository, service
from latency_service.spaces.schemas import SpaceView
from latency_service.web.answers import BINARY_BODY
from latency_service.web.deps import (
    Config,
    Data,
    JudgingPlace,
    Limit,
    Offset,
    ReadSession,
    read_upload,
)
from latency_service.web.routing import Router

router = Router(prefix="/v1", tags=["spaces"])


@router.post(
    "/spaces",
    status_code=201,
    dependencies=access("artifacts:write"),
    openapi_extra=BINARY_BODY,
    responses={200: {"model": SpaceView, "description": "stored before"}},
)
async def upload_space(
    request: Request,
    response: Response,
    database: Data,
    settings: Config,
    place: JudgingPlace,
    trail: Audit,
) -> SpaceView:
    """Upload a search space (the file that `pruning_client.SearchSpace.save` writes). The status
    is 200 if the space is already stored.
    """
    data = await read_upload(request, "space")
    row = await service.judge(place, settings.inspection_limits, data)

    def work() -> tuple[SpaceView, bool]:
        with database.write() as session:
            stored, new = service.store(session, row)
            if new:
                trail.record(session, "space.upload", stored.id)
            return service.show(stored), new

    view, new = await run_in_threadpool(work)
    response.status_code = 201 if new else 200
    return view


@router.get("/spaces", dependencies=access("read"))
def list_spaces(session: ReadSession, limit: Limit = 100, offset: Offset = 0) -> list[SpaceView]:
    """Search spaces, newest first."""
    page = repository.spaces(session, limit=limit, offset=offset)
    return [service.show(space) for space in page]


@router.get("/spaces/{space_id}", dependencies=access("read"))
def show_space(space_id: str, session: ReadSession) -> SpaceView:
    """One search space, by its id or an unambiguous prefix of it."""
    return service.show(service.get_space(session, space_id))
