"""Reading a request's head on the hot path, where starlette's mapping of headers costs too much."""

from __future__ import annotations

from starlette.types import Scope


def raw_header(scope: Scope, name: bytes) -> bytes | None:
    """The first header of that name, which is in lower case."""
    for known, value in scope["headers"]:
        if known == name:
            found: bytes = value
            return found
    return None
