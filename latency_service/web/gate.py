"""Who is let in, decided from a request's head alone: before a byte of its body is read, and before
it is known whether there is such a route.

Plain ASGI, since it is on the hot path.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Coroutine
from functools import partial
from http import HTTPStatus
from typing import Any, Protocol, TypeVar

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from latency_service.settings import Settings
from latency_service.web.errors import answer_to
from latency_service.web.heads import raw_header
from latency_service.web.held import Bodies
from latency_service.web.rates import Buckets
from latency_service.web.refusals import too_many

#: Beginning of the API's paths.
API = "/v1/"
#: Read by people in a browser and by Prometheus: these take a token as the password of basic
#: authentication too. They change nothing, so that a foreign page that makes a browser ask for
#: them does no harm.
DOCS = frozenset({"/docs", "/openapi.json"})
METRICS = frozenset({"/metrics"})

_CHALLENGE = 'Basic realm="latency-service: any name, and a token as the password"'

Guard = TypeVar("Guard", bound=Callable[[Request], Coroutine[Any, Any, Any]])


class KnowsTokens(Protocol):
    """What the gate asks of `auth.authenticator.Authenticator`."""

    async def ensure_migrated(self) -> None: ...

    async def principal(self, request: Request) -> Any:
        """Limits how often an address may send a token that is not valid."""


def before_body(guard: Guard) -> Guard:
    """Mark a dependency that needs a request's head alone: routes call it before they read the
    body.
    """
    guard.before_body = True  # type: ignore[attr-defined]
    return guard


def is_before_body(dependency: object) -> bool:
    return getattr(dependency, "before_body", False)


class Gate:
    """Answers requests to the API without a valid token with 401, whatever they ask for; tells the
    routes who asks in ``request.state.principal``; limits the rate of each token, and the memory
    of large bodies, by ``request.state.held``. A route that has found out that a request costs less
    than others calls ``request.state.give_back`` with the share that it does not cost.

    Pages of the dashboard let in who has signed in by themselves; where a token asks for one, they
    call ``request.state.count`` with its id.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self.app = app
        docs = frozenset() if settings.open_docs else DOCS
        metrics = frozenset() if settings.open_metrics else METRICS
        self._guarded = docs | metrics
        self._by_token = Buckets(settings.requests_per_second, settings.requests_burst)
        self._bodies = Bodies(settings)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        state["count"] = self._count
        if self._is_open(path_of(scope)):
            await self.app(scope, receive, send)
            return
        try:
            if path_of(scope) in DOCS | METRICS:
                _take_basic_as_bearer(scope)
            principal = await self._admit(Request(scope))
        except Exception as error:  # noqa: BLE001 - outside of the handlers of the routes
            await _refusal(scope, error)(scope, receive, send)
            return
        state["principal"] = principal
        state["give_back"] = partial(self._by_token.give_back, principal.token_id)
        state["held"] = held = self._bodies.of(principal.token_id)
        try:
            await self.app(scope, receive, send)
        finally:
            held.release()

    def _is_open(self, path: str) -> bool:
        return not path.startswith(API) and path not in self._guarded

    async def _admit(self, request: Request) -> Any:
        token = raw_header(request.scope, b"authorization")
        authenticator: KnowsTokens = request.app.state.authenticator
        if token is not None:
            await authenticator.ensure_migrated()
        principal = await authenticator.principal(request)
        self._count(principal.token_id)
        return principal

    def _count(self, token_id: str) -> None:
        wait_seconds = self._by_token.take(token_id)
        if wait_seconds:
            raise too_many("This token sends", "LATENCY_SERVICE_REQUESTS_PER_SECOND", wait_seconds)


def path_of(scope: Scope) -> str:
    """The request's path without the one under which a proxy serves the service."""
    path: str = scope["path"]
    return path.removeprefix(scope.get("root_path", ""))


def _refusal(scope: Scope, error: Exception) -> ASGIApp:
    answer = answer_to(error, scope)
    if answer.status_code == HTTPStatus.UNAUTHORIZED and path_of(scope) in DOCS | METRICS:
        answer.headers["www-authenticate"] = _CHALLENGE
    return answer


def _take_basic_as_bearer(scope: Scope) -> None:
    """Replace basic authentication by its password as a bearer token."""
    headers = MutableHeaders(scope=scope)
    scheme, _, sent = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return
    try:
        name_and_password = base64.b64decode(sent.strip(), validate=True).decode("latin-1")
    except binascii.Error:
        return
    password = name_and_password.partition(":")[2]
    headers["authorization"] = f"Bearer {password}"
