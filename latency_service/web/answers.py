"""What routes document about their answers: errors in the one form, bytes, and what both mean."""

from __future__ import annotations

from typing import Any

from fastapi import Response

from latency_service.web.errors import ErrorResponse

Responses = dict[int | str, dict[str, Any]]

OCTETS = "application/octet-stream"
_BYTES = {"content": {OCTETS: {"schema": {"type": "string", "format": "binary"}}}}

_MEANINGS = {
    400: "the body is not one complete gzip stream",
    401: "no token, or one that is not known or has expired",
    403: "the token's scopes do not allow this",
    404: "there is no such thing, or it is not this token's",
    409: "the state of things forbids it; the message says which",
    410: "the job was cancelled, or another attempt has finished it",
    413: "the body is larger than the limit that the message names",
    415: "the body has another content type or encoding than this takes",
    422: "a value cannot be; the message names the field",
    429: "too many requests; the header Retry-After says when to try again",
    503: "the service cannot answer now; the message says why",
}


def errors(*statuses: int) -> Responses:
    """Documentation of the errors that a route answers with."""
    return {
        status: {"model": ErrorResponse, "description": _MEANINGS[status]} for status in statuses
    }


#: Errors of every route that wants a token.
COMMON_ERRORS = errors(401, 403, 422, 429, 503)
#: Errors of every route that takes a body.
BODY_ERRORS = errors(413, 415)

BINARY_BODY = {"requestBody": {"required": True, **_BYTES}}
BINARY_ANSWER: Responses = {200: dict(_BYTES)}


class OctetResponse(Response):
    media_type = OCTETS
