"""Routes of search spaces and delivered model files."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Path, Request, Response
from starlette.concurrency import run_in_threadpool

from latency_service.auth.authenticator import ApiOnly, ApiOrAgent
from latency_service.core.errors import NotFound
from latency_service.spaces import repository, service
from latency_service.spaces.schemas import SpaceView
from latency_service.spaces.slicing import SearchSpace
from latency_service.web.deps import Config, Data, ReadSession, read_upload

router = APIRouter(prefix="/v1", tags=["spaces"])

OCTETS = "application/octet-stream"
IMMUTABLE = {"cache-control": "private, max-age=31536000, immutable"}
BINARY_BODY = {
    "requestBody": {
        "required": True,
        "content": {OCTETS: {"schema": {"type": "string", "format": "binary"}}},
    }
}
BINARY_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"content": {OCTETS: {"schema": {"type": "string", "format": "binary"}}}}
}
SHA256 = r"^[0-9a-f]{64}$"


class OctetResponse(Response):
    media_type = OCTETS


@router.post("/spaces", status_code=201, dependencies=ApiOnly, openapi_extra=BINARY_BODY)
async def upload_space(
    request: Request, response: Response, database: Data, settings: Config
) -> SpaceView:
    """Upload a search space (the file that `pruning_client.SearchSpace.save` writes). 200 when it
    is known already.
    """
    data = await read_upload(request, settings.max_space_bytes, "space")

    def work() -> tuple[SpaceView, bool]:
        row = service.describe(SearchSpace.from_bytes(data))
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
    """One search space, by its id or the only one that begins so."""
    return service.show(service.get_space(session, space_id))


@router.get(
    "/spaces/{sha256}/graph.onnx",
    dependencies=ApiOrAgent,
    response_class=OctetResponse,
    responses=BINARY_ANSWER,
)
def get_graph(sha256: str, session: ReadSession) -> Response:
    """The space's file: immutable, its SHA-256 is its address."""
    blob = repository.space_blob(session, sha256)
    if blob is None:
        raise NotFound(
            f"There is no search space {sha256!r}.", "List them with: latency-service spaces list."
        )
    return OctetResponse(blob, headers={"etag": f'"{sha256}"', **IMMUTABLE})


@router.put("/models/{sha256}", status_code=201, dependencies=ApiOnly, openapi_extra=BINARY_BODY)
async def upload_model(
    request: Request,
    response: Response,
    database: Data,
    settings: Config,
    sha256: str = Path(pattern=SHA256),
) -> dict[str, str | int]:
    """Upload a delivered network for a verification. 200 when it is known.

    It is removed when as many verifications have ended as there were uploads, or by an upload a day
    later.
    """
    data = await read_upload(request, settings.max_model_bytes, "model")

    def work() -> tuple[dict[str, str | int], bool]:
        row = service.check_model(data, sha256)
        view: dict[str, str | int] = {
            "sha256": row.sha256,
            "bytes": row.size_bytes,
            "opset": row.opset,
        }
        with database.write() as session:
            return view, service.store_model(session, row)

    view, new = await run_in_threadpool(work)
    response.status_code = 201 if new else 200
    return view


@router.get(
    "/models/{sha256}",
    dependencies=ApiOrAgent,
    response_class=OctetResponse,
    responses=BINARY_ANSWER,
)
def get_model(sha256: str, session: ReadSession) -> Response:
    """A delivered network, while its verification lasts."""
    service.get_model(session, sha256)
    return OctetResponse(repository.model_blob(session, sha256))
