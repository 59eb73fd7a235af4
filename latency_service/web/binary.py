"""Bodies and answers of bytes, as the API's description shows them."""

from __future__ import annotations

from typing import Any

from fastapi import Response

OCTETS = "application/octet-stream"
BINARY_BODY = {
    "requestBody": {
        "required": True,
        "content": {OCTETS: {"schema": {"type": "string", "format": "binary"}}},
    }
}
BINARY_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {"content": {OCTETS: {"schema": {"type": "string", "format": "binary"}}}}
}


class OctetResponse(Response):
    media_type = OCTETS
