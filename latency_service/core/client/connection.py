"""A connection to a service: address and token, retries, waits, and views out of responses."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, TypeAdapter

from latency_service.core.credentials import resolve
from latency_service.core.retry import retried
from latency_service.core.transport import ApiError, Transport
from latency_service.core.waiting import polled

POLL_SECONDS = 0.5
#: Maximum number of tries of a request that can be repeated without harm.
TRIES = 4
#: Rows in one request for a list: the most that the service gives.
_PAGE_ROWS = 1000
View = TypeVar("View", bound=BaseModel)


class Timeout(ApiError):
    """Something that was waited for took longer than allowed; it goes on in the service."""

    def __init__(self, what: str, seconds: float, cure: str) -> None:
        super().__init__(0, "timeout", f"{what} is not finished after {seconds:.0f} s.", cure)


class BadName(ApiError):
    """A name or id that would be another path of the service."""

    def __init__(self, value: str) -> None:
        super().__init__(
            0,
            "bad_name",
            f"{value!r} is not a valid name or id.",
            "The `list` command shows those there are.",
        )


class Connection:
    """Requests to one service; a context manager.

    Args:
        url: by default LATENCY_SERVICE_URL, then the embedded service's address.
        token: API token; by default LATENCY_SERVICE_TOKEN, then, for an address of this machine
            only, the one that `latency-service up` keeps.
        tries: maximum number of tries of a request that can be repeated without harm.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        tries: int = TRIES,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.credentials = resolve(url, token)
        self.url = self.credentials.url
        self._transport = Transport(self.url, self.credentials.token)
        self._tries = tries
        self._sleep = sleep
        self._clock = clock

    def close(self) -> None:
        self._transport.close()

    def _one(self, kind: type[View], path: str) -> View:
        return kind.model_validate_json(self._request("GET", path).content)

    def _many(self, kind: type[View], path: str, /, **filters: Any) -> list[View]:
        params = {name: value for name, value in filters.items() if value is not None}
        content = self._request("GET", path, params=params).content
        return TypeAdapter(list[kind]).validate_json(content)  # type: ignore[valid-type]

    def _all(
        self, kind: type[View], path: str, /, *, rows: int | None = None, **filters: Any
    ) -> list[View]:
        """Every row of a list, read page by page; `rows` to a page, by default as many as the
        service allows.
        """
        rows = rows or _PAGE_ROWS
        found: list[View] = []
        while True:
            page = self._many(kind, path, **filters, limit=rows, offset=len(found))
            found += page
            if len(page) < rows:
                return found

    def _request(self, method: str, path: str, *, repeatable: bool = True, **options: Any) -> Any:
        return retried(
            lambda: self._transport.request(method, path, **options),
            tries=self._tries if repeatable else 1,
            sleep=self._sleep,
        )

    def _wait(
        self,
        look: Callable[[], View],
        is_finished: Callable[[View], bool],
        what: str,
        timeout_seconds: float,
        cure: str,
        on_view: Callable[[View], None] | None = None,
    ) -> View:
        views = polled(
            look,
            pause_seconds=POLL_SECONDS,
            timeout_seconds=timeout_seconds,
            sleep=self._sleep,
            clock=self._clock,
        )
        try:
            for view in views:
                if on_view is not None:
                    on_view(view)
                if is_finished(view):
                    return view
        except TimeoutError:
            pass
        raise Timeout(what, timeout_seconds, cure)


def segment(value: str) -> str:
    """A name or an id as one segment of a path.

    Raises:
        BadName: it is empty or would be another path.
    """
    if value.strip() in ("", ".", ".."):
        raise BadName(value)
    return quote(value, safe="")
