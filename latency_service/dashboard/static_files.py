"""Route of the files that pages load."""

from __future__ import annotations

from fastapi import APIRouter, Request
from starlette.responses import Response

from latency_service.dashboard import links
from latency_service.dashboard.assets import named

router = APIRouter(include_in_schema=False)
_PATH = "/static/{address}"
links.declare("static", _PATH)


@router.get(_PATH, response_model=None)
def static_file(address: str, request: Request) -> Response:
    """A file that never changes: its address has a hash of its content."""
    asset = named(address)
    headers = {
        "cache-control": "public, max-age=31536000, immutable",
        "x-content-type-options": "nosniff",
        "vary": "accept-encoding",
    }
    if "gzip" in request.headers.get("accept-encoding", ""):
        headers["content-encoding"] = "gzip"
        return Response(asset.compressed, media_type=asset.media_type, headers=headers)
    return Response(asset.content, media_type=asset.media_type, headers=headers)
