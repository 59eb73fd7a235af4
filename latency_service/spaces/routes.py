"""Routes of search spaces."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from latency_service.auth.authenticator import ApiOnly, ApiOrAgent
from latency_service.core.errors import NotFound
from latency_service.spaces import repository, service
from latency_service.spaces.schemas import SpaceView
from latency_service.web.binary import BINARY_ANSWER, BINARY_BODY, OctetResponse
from latency_service.web.deps import Config, Data, Judge, ReadSession, read_upload

router = APIRouter(prefix="/v1", tags=["spaces"])

IMMUTABLE = {"cache-control": "private, max-age=31536000, immutable"}


@router.post("/spaces", status_code=201, dependencies=ApiOnly, openapi_extra=BINARY_BODY)
async def upload_space(
    request: Request, response: Response, database: Data, settings: Config, inspector: Judge
) -> SpaceView:
    """Upload a search space (the file that `pruning_client.SearchSpace.save` writes). The status
    is 200 if the space is already stored.
    """
    data = await read_upload(request, settings.max_space_bytes, "space")
    row = await service.judge(inspector, settings.inspection_limits, data)

    def work() -> tuple[SpaceView, bool]:
        with database.write() as session:
            stored, new = service.store(session, row)
            return service.show(stored), new

    view, new = await run_in_threadpool(work)
    response.status_code = 201 if new else 200
    return view


@router.get("/spaces", dependencies=ApiOrAgent)
def list_spaces(session: ReadSession) -> list[SpaceView]:
    """All search spaces, newest first."""
    return [service.show(space) for space in repository.spaces(session)]


@router.get("/spaces/{space_id}", dependencies=ApiOrAgent)
def show_space(space_id: str, session: ReadSession) -> SpaceView:
    """One search space, by its id or an unambiguous prefix of it."""
    return service.show(service.get_space(session, space_id))


@router.get(
    "/spaces/{sha256}/graph.onnx",
    dependencies=ApiOrAgent,
    response_class=OctetResponse,
    responses=BINARY_ANSWER,
)
def get_graph(sha256: str, session: ReadSession) -> Response:
    """File of a search space, immutable and addressed by its SHA-256."""
    blob = repository.space_blob(session, sha256)
    if blob is None:
        raise NotFound(
            f"There is no search space {sha256!r}.", "List them with: latency-service spaces list."
        )
    return OctetResponse(blob, headers={"etag": f'"{sha256}"', **IMMUTABLE})
