"""What every answer carries: a request id, headers for browsers, and one form of the last error.

Plain ASGI, since it is on the hot path.
"""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from latency_service.web.errors import answer_to, render
from latency_service.web.heads import raw_header

REQUEST_ID = b"x-request-id"
#: Beginning of the ids that this process gives: the system's random numbers for each request would
#: cost more than all the rest of this layer.
_PROCESS = secrets.token_hex(4).encode()
_NUMBERS = itertools.count()
_ACCEPTED_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
#: What an answer carries unless its route says otherwise. Answers are data, never pages: a browser
#: that is made to show one must not run, frame or keep it.
DEFAULTS: tuple[tuple[bytes, bytes], ...] = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)


class Envelope:
    """The outermost layer: names each request and completes each answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request_id = _request_id(scope)
        structlog.contextvars.bind_contextvars(request_id=request_id.decode())
        started = False

        async def complete(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = _completed(message["headers"], request_id)
            await send(message)

        try:
            await self.app(scope, receive, complete)
        except asyncio.CancelledError:
            if not started:
                await _shutting_down()(scope, receive, complete)
            raise
        except Exception as error:
            if started:
                raise
            await answer_to(error, scope)(scope, receive, complete)


def _request_id(scope: Scope) -> bytes:
    """The id that the client gave, if it is short and plain; otherwise a new one."""
    given = raw_header(scope, REQUEST_ID)
    if given is not None and _ACCEPTED_ID.fullmatch(given):
        return given
    return b"%s%08x" % (_PROCESS, next(_NUMBERS))


def _completed(headers: list[tuple[bytes, bytes]], request_id: bytes) -> list[tuple[bytes, bytes]]:
    given = {name for name, _ in headers}
    missing = [entry for entry in DEFAULTS if entry[0] not in given]
    return [*headers, *missing, (REQUEST_ID, request_id)]


def _shutting_down() -> ASGIApp:
    return render(
        503,
        "shutting_down",
        "The service is shutting down and has not finished this request.",
        "Send it again in a few seconds.",
        {"retry-after": "5"},
    )
