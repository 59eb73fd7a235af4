"""Live parts of pages, by server-sent events.

The server renders the parts and sends those that have changed; the page's script puts them in
place. What has ended is sent once more, and the stream ends; the script then shows the whole page
anew. All viewers of a page share what was rendered for one of them, so that many of them cost as
much as one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from fastapi import Depends, Request
from fastapi.sse import EventSourceResponse, ServerSentEvent
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool

from latency_service.core.errors import ServiceError
from latency_service.dashboard import links
from latency_service.dashboard.pages import Pages
from latency_service.dashboard.signing_in import viewer_of
from latency_service.web.deps import get_database

#: Time between two looks at what a page shows.
INTERVAL_SECONDS = 2.0
#: A stream ends after this time; browsers open a new one.
LONGEST_SECONDS = 600.0
#: How often a stream asks whether its viewer is still signed in.
CHECK_SECONDS = 10.0
_SHORTEST_NAP_SECONDS = 0.25


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a live page shows now."""

    #: HTML of elements by their id.
    html: dict[str, str]
    #: Figures by their id.
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Whether nothing will change any more.
    is_final: bool = False

    def since(self, sent: Parts) -> Parts:
        """What is other than in the parts that were sent."""
        return Parts(
            html=_other(self.html, sent.html),
            figures=_other(self.figures, sent.figures),
            is_final=self.is_final,
        )

    @property
    def is_news(self) -> bool:
        return bool(self.html or self.figures or self.is_final)

    def plain(self) -> dict[str, Any]:
        return {"html": self.html, "figures": self.figures, "final": self.is_final}


Shown = TypeVar("Shown")


def _other(now: dict[str, Shown], before: dict[str, Shown]) -> dict[str, Shown]:
    return {name: part for name, part in now.items() if before.get(name) != part}


#: Reads and renders the live parts of the page that a request asks for.
Snapshot = Callable[[Request, Session], Parts]


@dataclass
class LiveCache:
    """The newest parts of each page that is being watched. For one event loop."""

    kept: dict[str, tuple[float, Parts]] = field(default_factory=dict)
    locks: dict[str, asyncio.Lock] = field(default_factory=dict)

    async def newest(self, request: Request, snapshot: Snapshot) -> Parts:
        """The parts, at most `INTERVAL_SECONDS` old."""
        key = str(request.url.path) + "?" + request.url.query
        async with self.locks.setdefault(key, asyncio.Lock()):
            read_at, parts = self.kept.get(key, (0.0, None))
            if parts is None or time.monotonic() - read_at >= INTERVAL_SECONDS:
                parts = await run_in_threadpool(_read, request, snapshot)
                self._keep(key, parts)
            return parts

    def _keep(self, key: str, parts: Parts) -> None:
        now = time.monotonic()
        self.kept = {k: v for k, v in self.kept.items() if now - v[0] < 10 * INTERVAL_SECONDS}
        self.locks = {k: lock for k, lock in self.locks.items() if k in self.kept or lock.locked()}
        self.kept[key] = (now, parts)


def _read(request: Request, snapshot: Snapshot) -> Parts:
    with get_database(request).read() as session:
        return snapshot(request, session)


def live(pages: Pages, path: str, *, name: str) -> Callable[[Snapshot], Snapshot]:
    """Declare the function that follows as the source of a page's live parts. In the template::

    {% block live %}{{ href("NAME", ...) }}{% endblock %}
    """
    links.declare(name, path)

    def declare(snapshot: Snapshot) -> Snapshot:
        async def check(request: Request) -> None:
            """Answers 404 and the like before the stream begins."""
            await _cache(request).newest(request, snapshot)

        async def stream(request: Request) -> AsyncIterator[ServerSentEvent]:
            async for event in _events(request, snapshot):
                yield event

        pages.router.get(
            path,
            name=name,
            response_class=EventSourceResponse,
            dependencies=[Depends(viewer_of), Depends(check)],
        )(stream)
        return snapshot

    return declare


def _cache(request: Request) -> LiveCache:
    cache: LiveCache = request.app.state.live
    return cache


async def _events(request: Request, snapshot: Snapshot) -> AsyncIterator[ServerSentEvent]:
    yield ServerSentEvent(comment="open")
    sent = Parts(html={})
    began = checked_at = time.monotonic()
    while time.monotonic() - began < LONGEST_SECONDS and not request.app.state.stopping.is_set():
        if time.monotonic() - checked_at >= CHECK_SECONDS:
            if not await _may_still_look(request):
                return
            checked_at = time.monotonic()
        parts = await _cache(request).newest(request, snapshot)
        news = parts.since(sent)
        if news.is_news:
            sent = parts
            yield ServerSentEvent(event="parts", data=news.plain())
        if parts.is_final:
            return
        await _nap(request)


async def _may_still_look(request: Request) -> bool:
    try:
        await viewer_of(request)
    except ServiceError:
        return False
    return True


async def _nap(request: Request) -> None:
    """Until the next look, or the end of the service."""
    until = time.monotonic() + INTERVAL_SECONDS
    while time.monotonic() < until and not request.app.state.stopping.is_set():
        await asyncio.sleep(_SHORTEST_NAP_SECONDS)
