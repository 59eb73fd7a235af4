"""HTTP as the agent, the command line and the client speak it: one place for addresses, tokens,
errors and retries.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from latency_service import __version__

if TYPE_CHECKING:
    import httpx2

_TAG = re.compile(r"<[^>]*>")
_ADDRESS = "Check the address, with the path under which a proxy serves the service."
_UNREACHED = "See whether the service runs, and what the proxy's log says."
#: What to do about an answer that is not the service's own, by its status.
_FOREIGN_CURES = {
    413: "Raise the proxy's limit on bodies; in nginx: client_max_body_size 256m;",
}
#: Statuses after which the same request may succeed. The service answers none of the first row:
#: they are those of a captive portal, or of a proxy that asks for a login.
_RETRYABLE = frozenset({200, 302, 303, 307, 511} | {408, 425, 429, 500, 502, 503, 504})


#: Longest pause that an answer may ask for.
LONGEST_RETRY_AFTER_SECONDS = 600.0


class ApiError(Exception):
    """The service answered with an error: `status`, `code`, `message` (cause) and `cure`;
    `retry_after_seconds` is the shortest pause that it asks for before the next try.
    """

    def __init__(
        self, status: int, code: str, message: str, cure: str, retry_after_seconds: float = 0.0
    ) -> None:
        super().__init__(f"{message} {cure}".strip())
        self.retry_after_seconds = retry_after_seconds
        self.status = status
        self.code = code
        self.message = message
        self.cure = cure


class Unreachable(ApiError):
    """No answer from the service at all."""

    def __init__(self, url: str, cause: Exception) -> None:
        super().__init__(
            0,
            "unreachable",
            f"The service at {url} does not answer ({cause}).",
            "Start it with `latency-service up`, or give its address with --server or "
            "LATENCY_SERVICE_URL.",
        )


def is_retryable(error: Exception) -> bool:
    """Whether the same request may succeed later: no answer, overload, a gateway's fault, or the
    page of a network that wants a login first; never a refusal.
    """
    if isinstance(error, Unreachable):
        return True
    return isinstance(error, ApiError) and error.status in _RETRYABLE


class Transport:
    """A connection to one service. Not thread-safe for `close`; requests may come from several
    threads.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout_seconds: float = 30.0,
        http: Callable[..., httpx2.Client] | None = None,
    ) -> None:
        import httpx2

        self.url = url.rstrip("/")
        headers = {"user-agent": f"latency-service/{__version__}"}
        if token:
            headers["authorization"] = f"Bearer {token}"
        self._http = (http or httpx2.Client)(
            base_url=self.url, headers=headers, timeout=timeout_seconds
        )

    def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        content: bytes | None = None,
        params: dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        timeout_seconds: float | None = None,
    ) -> httpx2.Response:
        """Send one request and return its answer (any 2xx or 304).

        Raises:
            Unreachable: no answer.
            ApiError: an answer of 400 or above, with its cause and cure; or one that is not the
                service's own, such as a page or a redirection.
        """
        import httpx2

        options: dict[str, Any] = {} if timeout_seconds is None else {"timeout": timeout_seconds}
        if content is not None:
            options["content"] = content
        if json is not None:
            options["json"] = json
        try:
            answer = self._http.request(method, path, params=params, headers=headers, **options)
        except httpx2.HTTPError as error:
            raise Unreachable(self.url, error) from error
        if answer.status_code >= 400:
            raise _api_error(answer)
        if not _is_own(answer):
            raise _foreign_error(answer)
        return answer

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Transport:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _is_own(answer: httpx2.Response) -> bool:
    """Whether an answer without an error can be the service's: it neither redirects nor sends
    pages.
    """
    if answer.status_code == 304:
        return True
    is_page = answer.headers.get("content-type", "").startswith("text/html")
    return answer.status_code < 300 and not is_page


def _api_error(answer: httpx2.Response) -> ApiError:
    try:
        body = answer.json()["error"]
        return ApiError(
            answer.status_code,
            str(body["code"]),
            str(body["message"]),
            str(body.get("cure", "")),
            _retry_after_seconds(answer),
        )
    except (ValueError, KeyError, TypeError):
        return _foreign_error(answer)


def _foreign_error(answer: httpx2.Response) -> ApiError:
    """An answer that is not the service's own: a proxy's, or another program's at this address."""
    status = answer.status_code
    server = answer.headers.get("server")
    words = " ".join(_TAG.sub(" ", answer.text).split())[:300]
    return ApiError(
        status,
        "foreign_answer",
        f"{status} {answer.reason_phrase}, answered not by the service but by a proxy before it or "
        f"by another program ({server or 'unnamed'}): {words or 'nothing more'}.",
        _FOREIGN_CURES.get(status, _UNREACHED if status >= 500 else _ADDRESS),
        _retry_after_seconds(answer),
    )


def _retry_after_seconds(answer: httpx2.Response) -> float:
    """The header ``Retry-After`` where it names seconds; a date needs clocks that agree."""
    value = answer.headers.get("retry-after", "")
    return min(float(value), LONGEST_RETRY_AFTER_SECONDS) if value.isdecimal() else 0.0
