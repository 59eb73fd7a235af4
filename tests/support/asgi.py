"""Requests to an ASGI application without a client between: their heads alone, or their bodies in
pieces.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.types import ASGIApp, Message


class BodyWasRead(AssertionError):
    """The application asked for the body."""


@dataclass
class Answer:
    """What an application has answered."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def error(self) -> dict[str, str]:
        found: dict[str, str] = json.loads(self.body)["error"]
        return found


def ask(
    app: ASGIApp,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str] | None = None,
    pieces: Iterable[bytes] | None = None,
    query: bytes = b"",
    client: tuple[str, int] = ("192.0.2.1", 1),
) -> Answer:
    """Send one request.

    Args:
        pieces: the body; None raises `BodyWasRead` as soon as it is asked for.
    """
    answer = Answer()
    waiting = None if pieces is None else iter(pieces)

    async def receive() -> Message:
        if waiting is None:
            raise BodyWasRead(f"{method} {path}")
        piece = next(waiting, None)
        return {"type": "http.request", "body": piece or b"", "more_body": piece is not None}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer.status = message["status"]
            answer.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            answer.body += message.get("body", b"")

    asyncio.run(_call(app, _scope(method, path, headers or {}, query, client), receive, send))
    return answer


async def _call(app: ASGIApp, scope: dict[str, Any], receive: Any, send: Any) -> None:
    await app(scope, receive, send)


def _scope(
    method: str, path: str, headers: Mapping[str, str], query: bytes, client: tuple[str, int]
) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query,
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "client": client,
        "server": ("127.0.0.1", 80),
        "state": {},
    }
