"""Routes of delivered model files."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Path, Request, Response
from starlette.concurrency import run_in_threadpool

from latency_service.auth.access import access, require_scope
from latency_service.auth.audit import Audit
from latency_service.auth.authenticator import Principal
from latency_service.model_files import repository, service
from latency_service.web.answers import BINARY_ANSWER, BINARY_BODY, OctetResponse
from latency_service.web.deps import Config, Data, JudgingPlace, ReadSession, read_upload
from latency_service.web.routing import Router

router = Router(prefix="/v1", tags=["spaces"])

Reader = Annotated[Principal, Depends(require_scope("read", "agent"))]
SHA256 = r"^[0-9a-f]{64}$"


@router.put(
    "/models/{sha256}",
    status_code=201,
    dependencies=access("artifacts:write"),
    openapi_extra=BINARY_BODY,
    responses={200: {"model": dict[str, str | int], "description": "uploaded before"}},
)
async def upload_model(
    request: Request,
    response: Response,
    database: Data,
    trail: Audit,
    settings: Config,
    place: JudgingPlace,
    sha256: str = Path(pattern=SHA256),
) -> dict[str, str | int]:
    """Upload a delivered network for a verification. 200 when it is known.

    It is removed when as many verifications have ended as there were uploads, or by an upload a day
    later.
    """
    data = await read_upload(request, "model")
    row = await service.judge(place, settings.inspection_limits, data, sha256)

    def work() -> tuple[dict[str, str | int], bool]:
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
    response_class=Response,
    responses=BINARY_ANSWER,
)
def get_model(sha256: str, principal: Reader, session: ReadSession) -> Response:
    """A delivered network, while its verification lasts. An agent gets it while it holds the
    attempt at that verification.
    """
    service.get_model(session, sha256, principal.agent_id)
    return OctetResponse(repository.blob(session, sha256))
