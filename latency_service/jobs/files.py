"""Route of the search spaces' files. Agents fetch them to measure; an agent without an attempt that
needs the file is told that there is none.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Response

from latency_service.auth.access import access, require_scope
from latency_service.auth.authenticator import Principal
from latency_service.core.errors import NotFound
from latency_service.jobs import repository
from latency_service.jobs.models import Job
from latency_service.spaces import repository as spaces_repository
from latency_service.web.answers import BINARY_ANSWER, OctetResponse
from latency_service.web.deps import ReadSession
from latency_service.web.routing import Router

router = Router(prefix="/v1", tags=["spaces"])

IMMUTABLE = {"cache-control": "private, max-age=31536000, immutable"}
Reader = Annotated[Principal, Depends(require_scope("read", "agent"))]


@router.get(
    "/spaces/{sha256}/graph.onnx",
    dependencies=access("read", "agent"),
    response_class=Response,
    responses=BINARY_ANSWER,
)
def get_graph(sha256: str, principal: Reader, session: ReadSession) -> Response:
    """File of a search space, immutable and addressed by its SHA-256. An agent gets it while it
    holds an attempt that needs it.
    """
    blob = spaces_repository.space_blob(session, sha256)
    if blob is None or not repository.may_fetch(
        session, principal.agent_id, Job.space_id == sha256
    ):
        raise NotFound(
            f"There is no search space {sha256!r}.", "List them with: latency-service spaces list."
        )
    return OctetResponse(blob, headers={"etag": f'"{sha256}"', **IMMUTABLE})
