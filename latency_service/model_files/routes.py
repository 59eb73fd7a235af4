"""Routes of delivered model files."""

from __future__ import annotations

from fastapi import APIRouter, Path, Request, Response
from starlette.concurrency import run_in_threadpool

from latency_service.auth.authenticator import ApiOnly, ApiOrAgent
from latency_service.model_files import repository, service
from latency_service.web.binary import BINARY_ANSWER, BINARY_BODY, OctetResponse
from latency_service.web.deps import Config, Data, Judge, ReadSession, read_upload

router = APIRouter(prefix="/v1", tags=["spaces"])

SHA256 = r"^[0-9a-f]{64}$"


@router.put("/models/{sha256}", status_code=201, dependencies=ApiOnly, openapi_extra=BINARY_BODY)
async def upload_model(
    request: Request,
    response: Response,
    database: Data,
    settings: Config,
    inspector: Judge,
    sha256: str = Path(pattern=SHA256),
) -> dict[str, str | int]:
    """Upload a delivered network for a verification. 200 when it is known.

    It is removed when as many verifications have ended as there were uploads, or by an upload a day
    later.
    """
    data = await read_upload(request, settings.max_model_bytes, "model")
    row = await service.judge(inspector, settings.inspection_limits, data, sha256)

    def work() -> tuple[dict[str, str | int], bool]:
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
    return OctetResponse(repository.blob(session, sha256))
