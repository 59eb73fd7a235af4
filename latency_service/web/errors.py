"""Every error in one form: ``{"error": {"code", "message", "cure"}}``."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from sqlalchemy.exc import (
    DataError,
    InterfaceError,
    InternalError,
    OperationalError,
    SQLAlchemyError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeout
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse
from starlette.types import Scope

from latency_service.core.errors import ServiceError
from latency_service.db.faults import Fault, fault_of
from latency_service.spaces.errors import SpaceError, WidthsError

log = structlog.get_logger(__name__)

#: So many findings about a body are named; the others are counted.
_NAMED_FINDINGS = 10
_LONGEST_PLACE = 100
_LONGEST_PATH = 200
#: The process or the machine has run out of descriptors, disk or memory.
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.ENOMEM}
_RETRY_SECONDS = "5"


class ErrorBody(BaseModel):
    code: str
    message: str
    cure: str


class ErrorResponse(BaseModel):
    error: ErrorBody


def render(
    status: int, code: str, message: str, cure: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    return JSONResponse(
        {"error": {"code": code, "message": message, "cure": cure}},
        status_code=status,
        headers=dict(headers or {}),
    )


def describe_validation(errors: Iterable[Any]) -> str:
    """Pydantic's findings in one sentence, each with the place it is about."""
    found = list(errors)
    named = "; ".join(
        f"{_place(entry['loc'])}: {entry['msg']}" for entry in found[:_NAMED_FINDINGS]
    )
    more = len(found) - _NAMED_FINDINGS
    return f"{named}; and {more} more" if more > 0 else named


def headers_of(error: ServiceError) -> dict[str, str]:
    """The headers that belong to an error: how to get in, and when to try again."""
    headers = {}
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    if error.retry_after_seconds is not None:
        headers["retry-after"] = str(error.retry_after_seconds)
    return headers


def install(app: FastAPI) -> None:
    """Give the application its handlers."""
    for kind in (
        ServiceError,
        SpaceError,
        RequestValidationError,
        HTTPException,
        OperationalError,
        InterfaceError,
        InternalError,
        PoolTimeout,
        DataError,
        OverflowError,
        OSError,
        Exception,
    ):
        app.add_exception_handler(kind, _handle)


async def _handle(request: Request, error: Exception) -> JSONResponse:
    return answer_to(error, request.scope)


def answer_to(error: Exception, scope: Scope) -> JSONResponse:
    """The answer to a request that ended with `error`."""
    match error:
        case ServiceError():
            return _service_error(error)
        case SpaceError():
            return _space_error(error)
        case RequestValidationError():
            return _validation_error(error)
        case HTTPException():
            return _http_error(error)
        case ClientDisconnect():
            return render(
                400, "client_gone", "The client has closed the connection.", "Send it again."
            )
        case DataError() | OverflowError():
            return _data_error(error)
        case SQLAlchemyError() if (fault := fault_of(error)) is not None:
            return _database_error(error, fault)
        case OSError() if error.errno in _EXHAUSTED:
            return _exhausted(error)
    return _unexpected_error(error, scope)


def _place(location: Iterable[object]) -> str:
    return ".".join(str(part) for part in location)[:_LONGEST_PLACE]


def _service_error(error: ServiceError) -> JSONResponse:
    return render(error.status, error.code, error.message, error.cure, headers_of(error))


def _space_error(error: SpaceError) -> JSONResponse:
    if isinstance(error, WidthsError):
        return render(
            422,
            "bad_request",
            f"The widths are not valid: {error}.",
            "The groups of the space say which widths they take.",
        )
    return render(
        422,
        "bad_space",
        f"The search space is not valid: {error}.",
        "Correct it and send it again.",
    )


def _validation_error(error: RequestValidationError) -> JSONResponse:
    return render(
        422, "bad_request", describe_validation(error.errors()), "See /docs for what this takes."
    )


def _http_error(error: HTTPException) -> JSONResponse:
    phrase = HTTPStatus(error.status_code).phrase
    code = phrase.lower().replace(" ", "_")
    message = str(error.detail or phrase)
    return render(error.status_code, code, message, "See /docs for what there is.", error.headers)


def _database_error(error: Exception, fault: Fault) -> JSONResponse:
    log.error(fault.code, error=str(error))
    return render(503, fault.code, fault.message, fault.cure, {"retry-after": _RETRY_SECONDS})


def _exhausted(error: OSError) -> JSONResponse:
    log.error("exhausted", error=str(error))
    message = f"The service has run out of a resource: {error.strerror}."
    cure = "Free disk space, or raise the limit on open files (ulimit -n), then try again."
    return render(503, "exhausted", message, cure, {"retry-after": _RETRY_SECONDS})


def _data_error(error: Exception) -> JSONResponse:
    message = f"A value cannot be stored: {getattr(error, 'orig', error)}."
    return render(
        422,
        "bad_request",
        message,
        "Give text without NUL characters, and whole numbers of 32 bits.",
    )


def _unexpected_error(error: Exception, scope: Scope) -> JSONResponse:
    method, path = scope["method"], scope["path"][:_LONGEST_PATH]
    log.error("unexpected_error", method=method, path=path, exc_info=error)
    message = f"{type(error).__name__} in the service, at {method} {path}."
    cure = (
        "This is a fault of the service: its log has the details under the answer's X-Request-ID."
    )
    return render(500, "internal", message, cure)
