"""Connections of the HTTP server: limits that uvicorn does not have.

A connection that sends no request's head in time, sends a body too slowly, or does not take its
answer is closed. Heads are limited in size, connections in number; both are answered and logged.
What a client goes on sending after it has been answered is thrown away, and not for ever.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Collection, Iterable
from http import HTTPStatus
from typing import Any

import structlog
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
LINGERING = RESERVED_DESCRIPTORS // 2
#: A body may fall behind this by `Watch.stall_seconds`.
_BODY_BYTES_PER_SECOND = 1 << 10
#: Time between two lines of the log about one kind of refusal.
_LOG_SECONDS = 10.0
TOO_MANY = Overloaded(
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
        #: Accepted, and not yet among the connections of uvicorn: those that shake hands for TLS.
        self.arriving: set[Connection] = set()
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

    def excess(self, connections: Collection[object]) -> int:
        """How many over the limit one more would be, with those that arrive."""
        return len(connections) + len(self.arriving) + 1 - self.connections

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

    def __init__(self, watch: Watch, *, is_one_too_many: bool = False, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self.watch = watch
        self._is_one_too_many = is_one_too_many
        self._in_head = True
        self._has_completed = False
        self._head_bytes = 0
        self._discarded_bytes = 0
        self._is_refused = False
        #: Times by `time.monotonic`: since when it owes a request's head, when more of its body is
        #: due, and since when it does not take its answer.
        self._owes_since = self._body_due = time.monotonic()
        self._stuck_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.watch.arriving.discard(self)
        super().connection_made(transport)
        if self._is_one_too_many:
            self._refuse(TOO_MANY)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            self._discard(len(data))
            return
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
        self._body_due = time.monotonic() + self.watch.stall_seconds
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
        self._body_due = min(
            self._body_due + len(body) / _BODY_BYTES_PER_SECOND,
            time.monotonic() + self.watch.stall_seconds,
        )
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
        """Why the connection should be closed, None while it is in order; asked once a second."""
        if self._stuck_since is None and self.transport.is_closing():
            self._stuck_since = now  # it is closed as soon as the client has taken the rest
        if self._stuck_since is not None:
            is_stuck = now - self._stuck_since > self.watch.stall_seconds
            return "it does not take its answer" if is_stuck else None
        if self.cycle is not None and not self.cycle.response_complete:
            return self._overdue_within_request(now)
        # an idle one that has sent nothing of its next request is closed by uvicorn
        owes = self.timeout_keep_alive_task is None
        late = owes and now - self._owes_since > self.watch.head_seconds
        return "it sends no whole request" if late else None

    def abort(self) -> None:
        """Close the connection at once."""
        self.transport.abort()

    def _overdue_within_request(self, now: float) -> str | None:
        if not self.cycle.more_body:
            return None
        if self.flow.read_paused:  # the client waits for the service
            self._body_due = now + self.watch.stall_seconds
        return "it sends its body too slowly" if now > self._body_due else None

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
            # over TLS, a connection that closes goes on reading
            self.loop.call_later(_DEAF_SECONDS, self.abort)

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
            self.transport.write(refusal(error))
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


def refusal(error: ServiceError) -> bytes:
    """An answer as it goes over the connection, after which that is closed."""
    answer = render(error.status, error.code, error.message, error.cure, headers_of(error))
    headers = [*answer.raw_headers, *DEFAULTS, (b"connection", b"close")]
    status = f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}".encode()
    lines = [status, *(name + b": " + value for name, value in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + bytes(answer.body)
