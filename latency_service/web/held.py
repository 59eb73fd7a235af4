"""Large bodies that a process holds in memory: a limit on all of them together, and on those of one
token.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Literal

from latency_service.core.errors import Overloaded
from latency_service.settings import Settings

#: Uploads are held until they are judged and stored; JSON takes a multiple of its size when parsed.
Kind = Literal["upload", "json"]


class Pool:
    """Bytes that bodies of one kind may take together. For one event loop.

    One token's bodies may take half of it. The limit is for what is held at once: a body that is
    alone has only its own.
    """

    def __init__(self, limit_bytes: int, setting: str) -> None:
        self._limit_bytes = limit_bytes
        self._setting = setting
        self._taken: Counter[str] = Counter()

    def change(self, token_id: str, before: int, now: int) -> None:
        """A body that has taken `before` bytes takes `now`.

        Raises:
            Overloaded: there is no room for as much.
        """
        others = self._taken.total() - before
        of_token = self._taken[token_id] - before
        is_full = others > 0 and others + now > self._limit_bytes
        has_its_half = of_token > 0 and of_token + now > self._limit_bytes // 2
        if now > before and (is_full or has_its_half):
            raise Overloaded(
                "Other large bodies are being received, which take as much memory as is allowed.",
                f"Try again in a few seconds, or raise {self._setting} on the service.",
            )
        self._taken[token_id] += now - before
        self._taken += Counter()  # drops the zeros


class Bodies:
    """The pools of a process."""

    def __init__(self, settings: Settings) -> None:
        prefix = "LATENCY_SERVICE_"
        self.pools: Mapping[Kind, Pool] = {
            "upload": Pool(settings.upload_memory_bytes, f"{prefix}UPLOAD_MEMORY_BYTES"),
            "json": Pool(settings.json_memory_bytes, f"{prefix}JSON_MEMORY_BYTES"),
        }

    def of(self, token_id: str) -> Held:
        """What a request with this token holds: nothing yet."""
        return Held(self, token_id)


class Held:
    """What one request holds."""

    def __init__(self, bodies: Bodies, token_id: str) -> None:
        self._bodies = bodies
        self._token_id = token_id
        self._kind: Kind | None = None
        self._bytes = 0

    def grow(self, kind: Kind, size_bytes: int) -> None:
        """The request's body, of this kind, has grown to this size.

        Raises:
            Overloaded: see `Pool.change`.
        """
        self._bodies.pools[kind].change(self._token_id, self._bytes, size_bytes)
        self._kind, self._bytes = kind, size_bytes

    def release(self) -> None:
        """The request has ended."""
        if self._kind is not None:
            self._bodies.pools[self._kind].change(self._token_id, self._bytes, 0)
            self._kind, self._bytes = None, 0
