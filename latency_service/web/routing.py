"""Routes of the service: who may ask is checked before the body is read, and the body is read
within its limits.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from starlette.routing import Route

from latency_service.core.errors import BadRequest
from latency_service.web.answers import BODY_ERRORS, COMMON_ERRORS, errors
from latency_service.web.bodies import JSON, BodyLimits, BoundedRequest
from latency_service.web.gate import is_before_body

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
Value = TypeVar("Value")

_BODY = "kind_of_body"
_USUAL = ("json", False)


def body_kind(what: str, *, compressible: bool = False) -> Callable[[Endpoint], Endpoint]:
    """Give a route's body a limit of its own, the setting ``max_WHAT_bytes``; by default it is
    ``max_json_bytes``.

    Args:
        compressible: whether it may arrive compressed with gzip.
    """

    def mark(endpoint: Endpoint) -> Endpoint:
        setattr(endpoint, _BODY, (what, compressible))
        return endpoint

    return mark


class EdgeRoute(APIRoute):
    """A route that calls its guards before it reads the body, reads the body within limits, and
    documents the errors that follow from its path and its body.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **options: Any) -> None:
        super().__init__(path, endpoint, **options)
        of_path = errors(404) if "{" in path else {}
        of_body = BODY_ERRORS if _takes_body(self) else {}
        self.responses = {**of_path, **of_body, **self.responses}

    def get_route_handler(self) -> Handler:
        answer = super().get_route_handler()
        guards = tuple(_guards(self.dependant))
        what, compressible = getattr(self.endpoint, _BODY, _USUAL)
        takes_json = self.body_field is not None

        async def handle(request: Request) -> Response:
            for guard in guards:
                await guard(request)
            if takes_json:
                limits = BodyLimits.of(request.app.state.settings, what, compressible=compressible)
                request = BoundedRequest(request.scope, request.receive, limits)
                await _read(request)
            return await answer(request)

        return handle


class Router(APIRouter):
    """A room's router: its routes are `EdgeRoute`s that want a token."""

    def __init__(self, **options: Any) -> None:
        super().__init__(route_class=EdgeRoute, responses=COMMON_ERRORS, **options)


def hot_route(path: str, answer: Handler, method: str) -> Route:
    """A second route for a path, without FastAPI's resolving of parameters, which may take longer
    than the answer. The application tries it before all others; the route of the `Router` documents
    it. Whoever asks is checked by `answer`.
    """

    async def answer_at_once(request: Request) -> Response:
        request.scope["route"] = route
        return await answer(request)

    route = Route(path, answer_at_once, methods=[method])
    return route


async def read_json(request: Request, what: str, *, compressible: bool = False) -> Any:
    """The value of a body of kind `what`, as `EdgeRoute` reads it; None when there is none.

    Raises:
        TooLarge: see `BoundedRequest`.
        BadRequest: it is not JSON, or its content type is another.
    """
    limits = BodyLimits.of(request.app.state.settings, what, compressible=compressible)
    bounded = BoundedRequest(request.scope, request.receive, limits)
    await _read(bounded)
    return await bounded.json() if await bounded.body() else None


def validated(kind: TypeAdapter[Value], value: Any, *place: str) -> Value:
    """A value of a request as that kind.

    Args:
        place: where it is from, such as ``"query", "wait"``.

    Raises:
        RequestValidationError: it is not of that kind.
    """
    try:
        return kind.validate_python(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
        raise RequestValidationError(
            [{**one, "loc": (*place, *one["loc"])} for one in found]
        ) from error


def _takes_body(route: APIRoute) -> bool:
    described = route.openapi_extra or {}
    return route.body_field is not None or "requestBody" in described


def _guards(dependant: Dependant) -> Iterator[Callable[[Request], Coroutine[Any, Any, Any]]]:
    for child in dependant.dependencies:
        if child.call is not None and is_before_body(child.call):
            yield child.call
        yield from _guards(child)


async def _read(request: BoundedRequest) -> None:
    """Read and parse the body before anything else of the request is looked at.

    Raises:
        TooLarge: see `BoundedRequest`.
        BadRequest: it is not JSON, or its content type is another.
    """
    if not await request.body():
        return
    sent = request.headers.get("content-type", "")
    if sent.partition(";")[0].strip().lower() != JSON:
        raise BadRequest(
            f"The content type {sent[:100]!r} is not taken here.",
            f"Send JSON with the header Content-Type: {JSON}.",
            code="unsupported_media_type",
            status=415,
        )
    await request.json()
