"""What every request passes through: limits on bodies, and counting. Plain ASGI, since it is on the
hot path.
"""

from __future__ import annotations

import time
import zlib

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class BodyLimit:
    """Refuses bodies over a limit while they arrive, and unpacks those that came compressed with
    gzip: the limit is on what comes out. Paths in `uploads` read and limit theirs on their own.
    """

    def __init__(self, app: ASGIApp, limit_bytes: int, uploads: tuple[str, ...]) -> None:
        self.app = app
        self.limit_bytes = limit_bytes
        self.uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] != "http"
            or scope["method"] in ("GET", "HEAD")
            or scope["path"].removeprefix(scope.get("root_path", "")).startswith(self.uploads)
        ):
            await self.app(scope, receive, send)
            return
        left = self.limit_bytes
        coding = Headers(scope=scope).get("content-encoding", "identity").lower()
        unpacked = _Gzip() if coding == "gzip" else None

        async def limited() -> Message:
            nonlocal left
            if coding not in ("identity", "gzip"):
                raise HTTPException(
                    415, f"The content encoding {coding!r} is neither gzip nor none."
                )
            message = await receive()
            if unpacked is not None and message["type"] == "http.request":
                message = {**message, "body": unpacked.part(message, left + 1)}
            left -= len(message.get("body", b""))
            if left < 0:
                raise HTTPException(413, f"The body is larger than {self.limit_bytes} bytes.")
            return message

        await self.app(scope, limited, send)


class _Gzip:
    """A compressed body while it arrives."""

    def __init__(self) -> None:
        self._inflater = zlib.decompressobj(zlib.MAX_WBITS | 16)

    def part(self, message: Message, most_bytes: int) -> bytes:
        """What a message unpacks to, cut after `most_bytes`: a few bytes may unpack to gigabytes.

        Raises:
            HTTPException: it is not gzip, or ends too early.
        """
        try:
            data = self._inflater.decompress(message.get("body", b""), most_bytes)
        except zlib.error as error:
            raise HTTPException(400, f"The body is not valid gzip: {error}.") from error
        ended = self._inflater.eof and not self._inflater.unused_data
        if not message.get("more_body", False) and len(data) < most_bytes and not ended:
            raise HTTPException(400, "The body is not one complete gzip stream.")
        return data


METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})


class Metrics:
    """Counts and times requests by route."""

    def __init__(self, app: ASGIApp, registry: CollectorRegistry) -> None:
        self.app = app
        self._requests = Counter(
            "latency_service_requests",
            "Requests answered",
            ["method", "route", "status"],
            registry=registry,
        )
        self._seconds = Histogram(
            "latency_service_request_seconds",
            "Time to answer, s",
            ["method", "route"],
            registry=registry,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 500
        begun = time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            route = getattr(scope.get("route"), "path", "unknown")
            # anybody may invent methods: each would be a series of its own for ever
            method = scope["method"] if scope["method"] in METHODS else "other"
            self._requests.labels(method, route, status).inc()
            self._seconds.labels(method, route).observe(time.perf_counter() - begun)
