"""A local HTTP server for the fakes of the service."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

#: Status, and a body: bytes as they are, anything else as JSON.
Reply = tuple[int, Any]


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request as it arrived."""

    method: str
    #: path and query
    target: str
    #: value of the header Authorization
    authorization: str | None
    content_type: str | None
    #: tag of the header If-None-Match
    if_none_match: str | None
    content: bytes

    @property
    def path(self) -> str:
        """The path without the query."""
        return urlsplit(self.target).path

    @property
    def body(self) -> Any:
        """The content, decoded where it is JSON."""
        is_json = self.content_type == "application/json"
        return json.loads(self.content) if is_json else self.content


class LocalServer:
    """Answers with what `reply` returns, on a port of its own that it keeps when it is stopped and
    started again.
    """

    def __init__(self, reply: Callable[[Request], Reply]) -> None:
        self._reply = reply
        self._port = 0
        self._server: ThreadingHTTPServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def run(self) -> object:
        """The present run of the server; None while it is stopped."""
        return self._server

    def start(self) -> None:
        self._server = _Server(("127.0.0.1", self._port), _handler(self._reply))
        self._port = self._server.server_port
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Answer nothing: nobody listens any more."""
        server = self._server
        self._server = None
        if server is not None and self._thread is not None:
            server.shutdown()
            server.server_close()
            self._thread.join()


def _content(sent: bytes, coding: str | None) -> bytes:
    return gzip.decompress(sent) if coding == "gzip" else sent


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True


def _handler(reply: Callable[[Request], Reply]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def _serve(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            request = Request(
                method=self.command,
                target=self.path,
                authorization=self.headers.get("authorization"),
                content_type=self.headers.get("content-type"),
                if_none_match=self.headers.get("if-none-match"),
                content=_content(self.rfile.read(length), self.headers.get("content-encoding")),
            )
            status, body = reply(request)
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            content = b"" if status == 204 else content
            try:
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except ConnectionError:  # the client is gone, as tests may want it
                self.close_connection = True

        do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 the names that http.server asks for

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing on the tests' standard error."""

    return Handler
