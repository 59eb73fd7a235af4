"""A service with scripted replies on a real socket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from tests.support.http_server import LocalServer, Reply, Request


@dataclass
class ScriptedService:
    """Replies by "METHOD /path?query"; several replies are given out one by one, the last for
    ever.
    """

    url: str = ""
    replies: dict[str, list[Reply]] = field(default_factory=dict)
    seen: list[Request] = field(default_factory=list)

    def on(self, request: str, *bodies: Any, status: int = 200) -> None:
        self.replies[request] = [(status, body) for body in bodies]

    def refuse(self, request: str, status: int, code: str) -> None:
        self.on(request, refusal(code, "The cause.", "The cure."), status=status)

    def reply(self, request: Request) -> Reply:
        self.seen.append(request)
        return self.scripted(f"{request.method} {request.target}")

    def scripted(self, request: str) -> Reply:
        """The next reply to a request; 404 where there is none."""
        queue = self.replies.get(request)
        if queue is None:
            return 404, refusal("not_found", f"No reply is scripted: {request}.", "Script one.")
        return queue.pop(0) if len(queue) > 1 else queue[0]


S = TypeVar("S", bound=ScriptedService)


def refusal(code: str, message: str, cure: str) -> dict[str, Any]:
    """The body of a response that refuses."""
    return {"error": {"code": code, "message": message, "cure": cure}}


@contextmanager
def listening(service: S) -> Iterator[S]:
    """The service on a free port of this machine."""
    server = LocalServer(service.reply)
    server.start()
    service.url = server.url
    try:
        yield service
    finally:
        server.stop()
