"""The first page: what runs now, what failed, what is new."""

from __future__ import annotations

from fastapi import Request
from pydantic import BaseModel
from starlette.responses import Response

from latency_service.dashboard import links
from latency_service.dashboard.pages import Pages, page
from latency_service.web.deps import ReadSession

pages = Pages()
links.declare("docs", "/docs")


class HomeView(BaseModel):
    """What the first page shows."""

    devices: int


@pages.page("/", name="home", data="/home")
def home(request: Request, session: ReadSession) -> Response:
    """The first page."""
    from latency_service.devices import repository as devices_repository

    view = HomeView(devices=len(devices_repository.devices(session)))
    return page(request, "home.html", view)
