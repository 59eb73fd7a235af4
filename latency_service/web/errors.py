"""Every error in one form: ``{"error": {"code", "message", "cure"}}``."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from sqlalchemy.exc import DataError, OperationalError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from latency_service.core.errors import ServiceError
from latency_service.spaces.errors import SpaceError

log = structlog.get_logger(__name__)


class ErrorBody(BaseModel):
    code: str
    message: str
    cure: str


class ErrorResponse(BaseModel):
    error: ErrorBody


def render(status: int, code: str, message: str, cure: str) -> JSONResponse:
    return JSONResponse(
        {"error": {"code": code, "message": message, "cure": cure}}, status_code=status
    )


def describe_validation(errors: Any) -> str:
    """Pydantic's findings in one sentence, each with the place it is about."""
    return "; ".join(
        f"{'.'.join(str(part) for part in entry['loc'])}: {entry['msg']}" for entry in errors
    )


def install(app: FastAPI) -> None:
    """Give the application its handlers."""
    app.add_exception_handler(ServiceError, _service_error)
    app.add_exception_handler(SpaceError, _space_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(OperationalError, _database_error)
    app.add_exception_handler(DataError, _data_error)
    app.add_exception_handler(OverflowError, _data_error)
    app.add_exception_handler(Exception, _unexpected_error)


async def _service_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ServiceError)
    answer = render(error.status, error.code, error.message, error.cure)
    if error.status == HTTPStatus.UNAUTHORIZED:
        answer.headers["www-authenticate"] = "Bearer"
    return answer


async def _space_error(_: Request, error: Exception) -> JSONResponse:
    return render(
        422,
        "bad_space",
        f"The search space is not valid: {error}.",
        "Correct it and send it again.",
    )


async def _validation_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return render(
        422, "bad_request", describe_validation(error.errors()), "See /docs for what this takes."
    )


async def _http_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    phrase = HTTPStatus(error.status_code).phrase
    cure = "See /docs for what there is."
    answer = render(
        error.status_code, phrase.lower().replace(" ", "_"), str(error.detail or phrase), cure
    )
    answer.headers.update(error.headers or {})
    return answer


async def _database_error(_: Request, error: Exception) -> JSONResponse:
    log.error("database_unavailable", error=str(error))
    cure = "See that LATENCY_SERVICE_DATABASE_URL is right and the database runs, then try again."
    return render(503, "database_unavailable", "The database does not answer.", cure)


async def _data_error(_: Request, error: Exception) -> JSONResponse:
    message = f"A value cannot be stored: {getattr(error, 'orig', error)}."
    return render(
        422,
        "bad_request",
        message,
        "Give text without NUL characters, and whole numbers of 32 bits.",
    )


async def _unexpected_error(request: Request, error: Exception) -> JSONResponse:
    log.error("unexpected_error", path=request.url.path, exc_info=error)
    cure = "This is a fault of the service: its log has the details."
    return render(500, "internal", f"{type(error).__name__} in the service.", cure)
