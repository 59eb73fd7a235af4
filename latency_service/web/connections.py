"""Connections of the HTTP server: limits that uvicorn does not have.

A connection that sends no request's head in time, pauses within a body, or does not take its answer
is closed. Heads are limited in size, connections in number; both are answered and logged. What a
client goes on sending after it has been answered is thrown away, and not for ever.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any

import structlog
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from latency_service.core.errors import BadRequest, Overloaded, ServiceError, TooLarge
from latency_service.settings import Settings
from latency_service.web.envelope import DEFAULTS
from latency_service.web.errors import headers_of, render

log = structlog.get_logger(__name__)

#: File descriptors kept for the database, logs and files.
RESERVED_DESCRIPTORS = 100
#: How much a client may still send that was answered already, and how long; then the connection is
#: closed.
_DISCARDED_BYTES = 256 << 10
#: Headers of one request.
_MAX_HEADERS = 100
_LINGER_SECONDS = 1.0
#: Time that a client, or a proxy that passes its body on, then has to read the answer.
_DEAF_SECONDS = 0.5
#: Connections over the limit that linger.
_LINGERING = RESERVED_DESCRIPTORS // 2
#: Time between two lines of the log about one kind of refusal.
_LOG_SECONDS = 10.0
_TICKS_OF_A_SECOND = 10
_TOO_MANY = Overloaded(
    "This service has too many connections open.",
    "Try again later, or raise LATENCY_SERVICE_MAX_CONNECTIONS and the limit on open files "
    "(ulimit -n) on the service.",
    code="too_many_connections",
)


class TooManyHeaders(Exception):
    """A request has more headers than any client sends."""


class Watch:
    """Limits of all connections of one server, and what was refused by them."""

    def __init__(self, settings: Settings) -> None:
        self.head_bytes = settings.max_head_bytes
        self.head_seconds = settings.head_seconds
        self.stall_seconds = settings.stall_seconds
        self.connections = allow_connections(settings.max_connections)
        self._logged_at: dict[tuple[str, str], float] = {}
        self._counts: dict[tuple[str, str], int] = {}

    def note(self, event: str, reason: str, **about: Any) -> None:
        """Log a refusal: the first of its kind at once, then how many there were."""
        kind = (event, reason)
        self._counts[kind] = self._counts.get(kind, 0) + 1
        now = time.monotonic()
        if now - self._logged_at.get(kind, -_LOG_SECONDS) >= _LOG_SECONDS:
            log.warning(event, reason=reason, count=self._counts.pop(kind), **about)
            self._logged_at[kind] = now

    def sweep(self, connections: Iterable[object]) -> None:
        """Close the connections that make no progress."""
        now = time.monotonic()
        watched = [one for one in connections if isinstance(one, Connection)]
        for connection in watched:
            if (reason := connection.overdue(now)) is not None:
                self.note("connection_closed", reason, client=connection.client)
                connection.abort()


class Connection(HttpToolsProtocol):
    """One connection, under the limits of `watch`."""

    #: set by `protocol_class`
    watch: Watch

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._has_completed = False
        self._head_bytes = 0
        self._discarded_bytes = 0
        self._is_refused = False
        #: Times by `time.monotonic`: since when it owes a request's head, when it sent something
        #: last, and since when it does not take its answer.
        self._owes_since = self._moved_at = time.monotonic()
        self._stuck_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        excess = len(self.connections) - self.watch.connections
        if excess > 0:
            self.watch.note("connection_refused", "too_many", limit=self.watch.connections)
            self._refuse(_TOO_MANY)
        if excess > _LINGERING:
            transport.close()

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            self._discard(len(data))
            return
        self._moved_at = time.monotonic()
        was_in_head, self._has_completed = self._in_head, False
        super().data_received(data)
        if was_in_head and self._in_head and not self._has_completed:
            self._head_bytes += len(data)
            self._is_head_small()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(self.headers) >= _MAX_HEADERS:
            raise TooManyHeaders  # the parser stops, and `send_400_response` is called
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        self._in_head = False
        sizes = (len(name) + len(value) for name, value in self.headers)
        self._head_bytes = len(self.url) + sum(sizes)
        if self._is_head_small():
            super().on_headers_complete()
            if self._has_large_body():
                # It may be answered before its body has come. A proxy must not use such a
                # connection for somebody else's request.
                self.cycle.keep_alive = False
                self.cycle.transport = AnsweringTransport(self.transport, self._end)

    def on_body(self, body: bytes) -> None:
        if self._is_refused:
            return
        super().on_body(body)
        if self.cycle.response_complete:
            self._discard(len(body))

    def on_message_complete(self) -> None:
        self._in_head = self._has_completed = True
        self._head_bytes = self._discarded_bytes = 0
        if not self._is_refused:
            super().on_message_complete()

    def on_response_complete(self) -> None:
        self._owes_since = time.monotonic()
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck_since = time.monotonic()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stuck_since = None

    def send_400_response(self, msg: str) -> None:
        if self._in_head and len(self.headers or ()) >= _MAX_HEADERS:
            message = f"The request has more than {_MAX_HEADERS} headers."
            self._refuse_head(message, "Send fewer headers.")
            return
        self.watch.note("connection_refused", "not_http", client=self.client)
        self._refuse(
            BadRequest(
                msg,
                "Send HTTP/1.1. For https:// the service needs LATENCY_SERVICE_TLS_CERTIFICATE and "
                "LATENCY_SERVICE_TLS_KEY.",
                code="not_http",
                status=400,
            )
        )

    def overdue(self, now: float) -> str | None:
        """Why the connection should be closed, None while it is in order."""
        if self._stuck_since is not None and now - self._stuck_since > self.watch.stall_seconds:
            return "it does not take its answer"
        if self.cycle is not None and not self.cycle.response_complete:
            pauses = self.cycle.more_body and not self.flow.read_paused
            stalled = pauses and now - self._moved_at > self.watch.stall_seconds
            return "it pauses within a body" if stalled else None
        # an idle one that has sent nothing of its next request is closed by uvicorn
        owes = self.timeout_keep_alive_task is None
        late = owes and now - self._owes_since > self.watch.head_seconds
        return "it sends no whole request" if late else None

    def abort(self) -> None:
        """Close the connection at once."""
        self.transport.abort()

    def _has_large_body(self) -> bool:
        for name, value in self.headers:
            if name == b"content-length":
                return int(value) > _DISCARDED_BYTES
            if name == b"transfer-encoding":
                return True
        return False

    def _end(self) -> None:
        """Close the connection: at once when the whole request has come, else soon."""
        if self._in_head:
            self.transport.close()
        else:
            self._linger()

    def _linger(self) -> None:
        self._is_refused = True
        self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    def _discard(self, count: int) -> None:
        was_enough = self._discarded_bytes > _DISCARDED_BYTES
        self._discarded_bytes += count
        if self._discarded_bytes > _DISCARDED_BYTES and not was_enough:
            self.transport.pause_reading()
            self.loop.call_later(_DEAF_SECONDS, self.transport.close)

    def _is_head_small(self) -> bool:
        """Whether the head is within its limit; the request is refused otherwise."""
        limit = self.watch.head_bytes
        if self._head_bytes <= limit:
            return True
        self._refuse_head(
            f"The request's head is larger than {limit} bytes.",
            "Send a shorter path or fewer headers, or raise LATENCY_SERVICE_MAX_HEAD_BYTES on the "
            "service.",
        )
        return False

    def _refuse_head(self, message: str, cure: str) -> None:
        self.watch.note("connection_refused", "head_too_large", client=self.client)
        self._refuse(TooLarge(message, cure, code="head_too_large", status=431))

    def _refuse(self, error: ServiceError) -> None:
        """Answer without the application, and close the connection: soon, not at once, since that
        would lose the answer on the way to a client that still sends.
        """
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(_refusal(error))
        self._linger()


class AnsweringTransport(asyncio.Transport):
    """What a request uses of its connection's transport; `end` closes it."""

    def __init__(self, transport: asyncio.Transport, end: Callable[[], None]) -> None:
        super().__init__()
        self._transport = transport
        self._end = end

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self._transport.write(data)

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._end()


class Server(uvicorn.Server):
    """A uvicorn server that looks after its connections once a second."""

    def __init__(self, config: uvicorn.Config, watch: Watch) -> None:
        super().__init__(config)
        self._watch = watch

    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS_OF_A_SECOND == 0:
            self._watch.sweep(self.server_state.connections)
        return await super().on_tick(counter)


def make_server(application: Any, settings: Settings) -> Server:
    """The server of `application`, with one process and its connections watched."""
    watch = Watch(settings)
    config = uvicorn.Config(
        application,
        loop="uvloop",
        http=protocol_class(watch),
        ws="none",
        workers=1,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=settings.drain_seconds,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
        forwarded_allow_ips=settings.trusted_proxies or "127.0.0.1",
    )
    return Server(config, watch)


def protocol_class(watch: Watch) -> type[Connection]:
    """The protocol of a server whose connections are under `watch`."""
    return type("WatchedConnection", (Connection,), {"watch": watch})


def allow_connections(most: int) -> int:
    """Let this process open as many files as it may; how many connections, at most `most`, that
    allows.
    """
    if sys.platform == "win32":
        return most
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    # without a limit it is RLIM_INFINITY, -1 on some systems
    is_limited = hard != resource.RLIM_INFINITY
    files = hard if is_limited else most + RESERVED_DESCRIPTORS
    if soft != resource.RLIM_INFINITY and soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    return max(1, min(most, files - RESERVED_DESCRIPTORS))


def _refusal(error: ServiceError) -> bytes:
    answer = render(error.status, error.code, error.message, error.cure, headers_of(error))
    headers = [*answer.raw_headers, *DEFAULTS, (b"connection", b"close")]
    status = f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}".encode()
    lines = [status, *(name + b": " + value for name, value in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + bytes(answer.body)
