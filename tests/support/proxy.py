"""A small reverse proxy over real sockets: a path of its own, a limit on bodies, a cut of polls."""

from __future__ import annotations

import itertools
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2

TOO_LARGE = b"<html><head><title>413</title></head><body>413 Request Entity Too Large</body></html>"
TIMED_OUT = b"<html><body><h1>504 Gateway Time-out</h1></body></html>"
_HOP = {"connection", "host", "content-length", "transfer-encoding", "keep-alive"}


class Proxy:
    """Passes requests for `prefix` on to a service.

    Args:
        target: address of the service; several addresses are those of replicas, which are asked in
            turn, the next one where one does not answer.
        prefix: path under which it is served.
        cut_prefix: whether the service sees the path without it.
        most_bytes: largest body that is passed on, of requests whose path has `limited` in it.
        cut_seconds: time after which a request that waits is cut.
        cut_with: status of the answer then; None closes the connection without a word.
    """

    def __init__(
        self,
        *target: str,
        prefix: str = "",
        cut_prefix: bool = True,
        most_bytes: int = 1_000_000,
        limited: str = "",
        cut_seconds: float = 60.0,
        cut_with: int | None = 504,
    ) -> None:
        self.targets = itertools.cycle(target)
        self._replicas = len(target)
        self.prefix = prefix
        self.cut_prefix = cut_prefix
        self.most_bytes = most_bytes
        self.limited = limited
        self.cut_seconds = cut_seconds
        self.cut_with = cut_with
        #: method, path and time of every request
        self.seen: list[tuple[str, str, float]] = []
        #: size of the largest body that came
        self.largest_bytes = 0
        self._http = httpx2.Client(timeout=None)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}{self.prefix}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._http.close()

    def times(self, path: str) -> list[float]:
        """When requests for a path came."""
        return [at for _, seen, at in self.seen if path in seen]

    def _pass_on(
        self, method: str, path: str, headers: dict[str, str], body: bytes
    ) -> tuple[int | None, bytes]:
        self.seen.append((method, path, time.monotonic()))
        self.largest_bytes = max(self.largest_bytes, len(body))
        if not path.startswith(f"{self.prefix}/"):
            return 404, b"<html>404 Not Found</html>"
        if len(body) > self.most_bytes and self.limited in path:
            return 413, TOO_LARGE
        inner = path.removeprefix(self.prefix) if self.cut_prefix else path
        for _ in range(self._replicas):
            try:
                answer = self._http.request(
                    method,
                    next(self.targets) + inner,
                    headers=headers,
                    content=body,
                    timeout=self.cut_seconds,
                )
            except httpx2.ConnectError:
                continue
            except httpx2.ReadTimeout:
                return self.cut_with, TIMED_OUT
            except httpx2.HTTPError:
                break
            return answer.status_code, answer.content
        return 502, b"<html>502 Bad Gateway</html>"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            server_version = "small-proxy"

            def _serve(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
                status, content = proxy._pass_on(self.command, self.path, headers, body)
                if status is None:
                    self.close_connection = True
                    return
                try:
                    self.send_response(status)
                    self.send_header("content-length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)
                except ConnectionError:  # the client is gone
                    self.close_connection = True

            do_GET = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815 http.server's names

            def log_message(self, format: str, *args: object) -> None:
                """Nothing on the tests' standard error."""

        return Handler
