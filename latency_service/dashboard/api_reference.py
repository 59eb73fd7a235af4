"""The API's description for who has signed in; `/docs` wants a token."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from latency_service.dashboard import links
from latency_service.dashboard.signing_in import SignedIn
from latency_service.web import reference

router = APIRouter(include_in_schema=False)
_PATH = "/reference"
links.declare("docs", _PATH)


@router.get(_PATH, name="docs", response_model=None)
def api_reference(request: Request, _viewer: SignedIn) -> Response:
    """The page that `/docs` shows."""
    return reference.docs(request)
