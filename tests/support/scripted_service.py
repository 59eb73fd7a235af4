"""A service with scripted responses, and the outcome of a command."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Seen:
    method: str
    path: str
    token: str | None
    body: Any


@dataclass
class FakeService:
    """Answers by method and path (query and all); a list of answers is given out one by one, the
    last for ever.
    """

    url: str = ""
    answers: dict[str, list[tuple[int, Any]]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)

    def on(self, request: str, *bodies: Any, status: int = 200) -> None:
        self.answers[request] = [(status, body) for body in bodies]

    def refuse(self, request: str, status: int, code: str) -> None:
        self.on(
            request,
            {"error": {"code": code, "message": "The cause.", "cure": "The cure."}},
            status=status,
        )

    def answer(self, seen: Seen) -> tuple[int, Any]:
        self.seen.append(seen)
        queue = self.answers[f"{seen.method} {seen.path}"]
        return queue.pop(0) if len(queue) > 1 else queue[0]


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Run = Callable[..., Outcome]
