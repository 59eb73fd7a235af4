"""Giving the application its pages."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from anyio import CapacityLimiter
from fastapi import FastAPI, Request
from starlette.responses import Response

from latency_service.dashboard import api_reference, downloads, sign_in_pages, static_files
from latency_service.dashboard.campaigns import pages as campaigns
from latency_service.dashboard.fleet import pages as fleet
from latency_service.dashboard.home import pages as home
from latency_service.dashboard.live import LiveCache
from latency_service.dashboard.measurements import pages as measurements
from latency_service.dashboard.pages import Pages, html, redirect
from latency_service.dashboard.predictors import pages as predictors
from latency_service.dashboard.queue import pages as queue
from latency_service.dashboard.rendering import Renderer
from latency_service.dashboard.reports import pages as reports
from latency_service.dashboard.runs import comparing as run_comparison
from latency_service.dashboard.runs import pages as runs
from latency_service.dashboard.signing_in import NotSignedIn
from latency_service.dashboard.spaces import pages as spaces
from latency_service.dashboard.targets import comparing as target_comparison
from latency_service.dashboard.targets import pages as targets
from latency_service.dashboard.whatif import pages as whatif

Handler = Callable[[Request, Any], Awaitable[Response]]

PAGES: tuple[Pages, ...] = (
    home.pages,
    fleet.pages,
    campaigns.pages,
    measurements.pages,
    queue.pages,
    predictors.pages,
    whatif.pages,
    spaces.pages,
    targets.pages,
    target_comparison.pages,
    runs.pages,
    run_comparison.pages,
    downloads.pages,
    reports.pages,
)


def install(app: FastAPI, root_path: str) -> None:
    """Add the dashboard to an application whose error handlers are installed."""
    app.state.dashboard = Renderer(root_path)
    app.state.live = LiveCache()
    app.state.what_if_limiter = CapacityLimiter(whatif.ANSWERS_AT_ONCE)
    app.include_router(static_files.router)
    app.include_router(api_reference.router)
    app.include_router(sign_in_pages.router)
    app.include_router(sign_in_pages.api)
    for pages in PAGES:
        app.include_router(pages.router)
    for kind, handler in list(app.exception_handlers.items()):
        app.add_exception_handler(kind, _as_page(handler))


def _as_page(handler: Any) -> Handler:
    """An error handler that answers readers with a page, and programs as before."""

    async def handle(request: Request, error: Any) -> Response:
        if not _wants_page(request):
            answer: Response = await handler(request, error)
            return answer
        if isinstance(error, NotSignedIn):
            wanted = _path(request) if request.method == "GET" else ""
            return redirect(request, "signin", {"next": _with_query(request, wanted)})
        return _error_page(request, await handler(request, error))

    return handle


def _wants_page(request: Request) -> bool:
    is_program = _path(request).startswith("/v1/")
    return "text/html" in request.headers.get("accept", "") and not is_program


def _path(request: Request) -> str:
    """The path within the service, whether or not a proxy has cut the prefix."""
    path: str = request.scope["path"]
    return path.removeprefix(request.scope.get("root_path", ""))


def _with_query(request: Request, path: str) -> str:
    return f"{path}?{request.url.query}" if path and request.url.query else path


def _error_page(request: Request, answer: Response) -> Response:
    found = json.loads(bytes(answer.body))["error"]
    context = {
        **found,
        "status": answer.status_code,
        "phrase": HTTPStatus(answer.status_code).phrase,
        "request_id": answer.headers.get("x-request-id", ""),
    }
    page = html(request, "error.html", context, status=answer.status_code)
    if "retry-after" in answer.headers:
        page.headers["retry-after"] = answer.headers["retry-after"]
    return page
