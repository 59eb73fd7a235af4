"""How pages are declared and rendered.

A page is a function that returns ``page(request, "name.html", view, tables=[...])``. It is declared
with `Pages.page`, and the same function answers at three addresses: the page, ``.json`` with its
view, and ``.csv`` with the first of its tables, whole.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse

from latency_service.core.errors import NotFound
from latency_service.dashboard import links
from latency_service.dashboard.rendering import Renderer, dashboard_of
from latency_service.dashboard.signing_in import Viewer, viewer_of
from latency_service.dashboard.tables import Table
from latency_service.web.deps import get_database

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

#: What a browser may do with a page: nothing from elsewhere, no script or style within the page.
#: Figures are saved as PNG through images of the schemes data and blob.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


class Pages:
    """A room's pages: a router that knows three addresses for each."""

    def __init__(self) -> None:
        self.router = APIRouter(include_in_schema=False, dependencies=[Depends(viewer_of)])

    def page(
        self, path: str, *, name: str, data: str | None = None
    ) -> Callable[[Endpoint], Endpoint]:
        """Declare the function that follows as the page at `path`.

        Args:
            name: what links call it.
            data: path of its data without suffix, where it is not that of the page.
        """
        base = data or path
        links.declare(name, path)
        for suffix in ("json", "csv"):
            links.declare(f"{name}.{suffix}", f"{base}.{suffix}")

        def declare(endpoint: Endpoint) -> Endpoint:
            for suffix in (".json", ".csv"):
                self.router.get(base + suffix, response_model=None, name=name + suffix)(endpoint)
            self.router.get(path, response_model=None, name=name)(endpoint)
            return endpoint

        return declare

    def file(self, path: str, *, name: str) -> Callable[[Endpoint], Endpoint]:
        """Declare the function that follows as a file to download, for whoever has signed in."""
        links.declare(name, path)

        def declare(endpoint: Endpoint) -> Endpoint:
            self.router.get(path, response_model=None, name=name)(endpoint)
            return endpoint

        return declare

    def post(self, path: str, *, name: str) -> Callable[[Endpoint], Endpoint]:
        """Declare the function that follows as what a form does. It takes a
        `signing_in.PostedForm` and returns `redirect(...)`.
        """
        links.declare(name, path)

        def declare(endpoint: Endpoint) -> Endpoint:
            self.router.post(path, response_model=None, name=name)(endpoint)
            return endpoint

        return declare


def page(
    request: Request,
    template: str,
    view: BaseModel,
    *,
    tables: Sequence[Table[Any]] = (),
    **more: Any,
) -> Response:
    """The answer of a page: HTML, or its data, as the address asks.

    Args:
        template: file in ``templates``; it sees `view`, `tables`, `viewer` and `more`.
        tables: lists of the page; the CSV is the first.
        more: what only the HTML needs, figures for example.
    """
    path = str(request.scope["route"].path)
    if path.endswith(".json"):
        return Response(view.model_dump_json(), media_type="application/json", headers=_private())
    if path.endswith(".csv"):
        return _csv(request, tables)
    context = {"view": view, "tables": list(tables), **more}
    return html(request, template, context)


def html(
    request: Request, template: str, context: dict[str, Any], *, status: int = 200
) -> HTMLResponse:
    """A page of the common layout, with the headers that every page has."""
    renderer: Renderer = dashboard_of(request)
    text = renderer.render(request, template, context)
    return HTMLResponse(text, status_code=status, headers={**SECURITY_HEADERS, **_private()})


def redirect(
    request: Request, name: str, query: dict[str, object] | None = None, /, **path: str
) -> RedirectResponse:
    """After a form: go and look at a page."""
    root = dashboard_of(request).root
    return RedirectResponse(links.link(root, name, query, **path), 303, headers=_private())


def viewer(request: Request) -> Viewer:
    """Who looks at the page."""
    found: Viewer = request.state.viewer
    return found


def _csv(request: Request, tables: Sequence[Table[Any]]) -> Response:
    if not tables:
        raise NotFound("This page has no table.", "Its data are at the same address with .json.")

    def lines() -> Any:
        with get_database(request).read() as session:
            yield from tables[0].csv_lines(session)

    name = str(request.scope["route"].name).removesuffix(".csv")
    media_type = "text/csv; charset=utf-8"
    return StreamingResponse(lines(), media_type=media_type, headers=attachment(f"{name}.csv"))


def attachment(name: str) -> dict[str, str]:
    """Headers of a file that a browser saves under a name."""
    return {"content-disposition": f'attachment; filename="{name}"', **_private()}


def _private() -> dict[str, str]:
    return {"cache-control": "private, no-store"}
