"""Routes of delivered model files."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response
from starlette.concurrency import run_in_threadpool

from latency_service.auth.access import access, require_scope
from latency_service.auth.audit import Audit
from latency_service.auth.authenticator import Principal
from latency_service.model_files import repository, service
from latency_service.web.binary import BINARY_ANSWER, BINARY_BODY, OctetResponse
from latency_service.web.deps import Config, Data, ReadSession, read_upload

router = APIRouter(prefix="/v1", tags=["spaces"])

Reader = Annotated[Principal, Depends(require_scope("read", "agent"))]
SHA256 = r"^[0-9a-f]{64}$"


@router.put(
    "/models/{sha256}",
    status_code=201,
    dependencies=access("artifacts:write"),
    openapi_extra=BINARY_BODY,
)
async def upload_model(
    request: Request,
    response: Response,
    database: Data,
    settings: Config,
    trail: Audit,
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
            trail.record(session, "model.upload", row.sha256)
            return view, service.store_model(session, row)

    view, new = await run_in_threadpool(work)
    response.status_code = 201 if new else 200
    return view


@router.get(
    "/models/{sha256}",
    dependencies=access("read", "agent"),
    response_class=OctetResponse,
    responses=BINARY_ANSWER,
)
def get_model(sha256: str, principal: Reader, session: ReadSession) -> Response:
    """A delivered network, while its verification lasts. An agent gets it while it holds the
    attempt at that verification.
    """
    service.get_model(session, sha256, principal.agent_id)
    return OctetResponse(repository.blob(session, sha256))
