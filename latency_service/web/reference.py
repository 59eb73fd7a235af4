"""The description of the API: for programs as OpenAPI, for people as one page without scripts."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from latency_service.web.answers import COMMON_ERRORS

router = APIRouter(tags=["reference"], responses=COMMON_ERRORS)

_REFERENCE = "#/components/schemas/"
#: What a browser may keep of the description while it is looked at.
_CACHE = "private, max-age=60"


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one path, as the page shows it."""

    method: str
    path: str
    tag: str
    summary: str
    description: str
    access: str
    parameters: list[dict[str, Any]]
    body: list[tuple[str, str]]
    #: Status, meaning and content of each answer.
    answers: list[tuple[str, str, list[tuple[str, str]]]]


@router.get("/openapi.json", responses={200: {"content": {"application/json": {"schema": {}}}}})
def openapi(request: Request) -> Response:
    """This description, for programs (OpenAPI 3.1)."""
    return Response(
        _json_of(request.app), media_type="application/json", headers={"cache-control": _CACHE}
    )


@router.get(
    "/docs",
    response_class=Response,
    responses={200: {"content": {"text/html": {"schema": {"type": "string"}}}}},
)
def docs(request: Request) -> Response:
    """This description, for people."""
    page, policy = _page_of(request.app)
    headers = {"content-security-policy": policy, "cache-control": _CACHE}
    return Response(page, media_type="text/html", headers=headers)


@cache
def _json_of(app: FastAPI) -> bytes:
    return json.dumps(app.openapi(), separators=(",", ":")).encode()


@cache
def _page_of(app: FastAPI) -> tuple[str, str]:
    """The page, and the policy that allows it its own style and nothing else."""
    environment = Environment(
        loader=PackageLoader("latency_service.web"), autoescape=True, undefined=StrictUndefined
    )
    style = environment.get_template("reference.css").render()
    document = app.openapi()
    page = environment.get_template("reference.html.j2").render(
        document=document, style=style, tags=by_tag(document), schemas=list(schemas(document))
    )
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return page, f"default-src 'none'; style-src 'sha256-{digest}'; frame-ancestors 'none'"


def by_tag(document: dict[str, Any]) -> dict[str, list[Operation]]:
    """The operations of an OpenAPI document by their tag."""
    found: dict[str, list[Operation]] = {}
    for operation in _operations(document):
        found.setdefault(operation.tag, []).append(operation)
    return found


def _operations(document: dict[str, Any]) -> Iterator[Operation]:
    for path, methods in document["paths"].items():
        for method, one in methods.items():
            yield Operation(
                method=method.upper(),
                path=path,
                tag=one["tags"][0],
                summary=one["summary"],
                description=one.get("description", ""),
                access=_access(one),
                parameters=[_parameter(entry) for entry in one.get("parameters", [])],
                body=_content(one.get("requestBody", {})),
                answers=[
                    (status, answer.get("description", ""), _content(answer))
                    for status, answer in sorted(one["responses"].items())
                ],
            )


def _access(operation: dict[str, Any]) -> str:
    ways = [
        f"{name} ({', '.join(scopes)})" if scopes else name
        for way in operation.get("security", [])
        for name, scopes in way.items()
    ]
    return " or ".join(ways)


def _parameter(entry: dict[str, Any]) -> dict[str, Any]:
    schema = entry.get("schema", {})
    return {
        "name": entry["name"],
        "place": entry["in"],
        "type": _type(schema),
        "description": entry.get("description") or schema.get("description", ""),
    }


def _content(described: dict[str, Any]) -> list[tuple[str, str]]:
    """Media types of a body or an answer, each with its type."""
    return [
        (media, _type(one.get("schema", {}))) for media, one in described.get("content", {}).items()
    ]


def schemas(document: dict[str, Any]) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """Name, description and fields of each schema."""
    for name, schema in sorted(document["components"]["schemas"].items()):
        required = set(schema.get("required", []))
        fields = [
            {
                "name": field,
                "type": _type(described),
                "required": field in required,
                "description": described.get("description", ""),
            }
            for field, described in schema.get("properties", {}).items()
        ]
        yield name, schema.get("description", ""), fields


def _type(schema: dict[str, Any]) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"]).removeprefix(_REFERENCE)
    for joined in ("anyOf", "oneOf", "allOf"):
        if joined in schema:
            return " or ".join(_type(one) for one in schema[joined])
    if "enum" in schema or "const" in schema:
        return " | ".join(json.dumps(one) for one in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if schema.get("format") == "binary":
        return "bytes"
    bounds = _bounds(schema)
    return f"{schema.get('type', 'anything')}{bounds}"


def _bounds(schema: dict[str, Any]) -> str:
    words = {
        "minimum": "≥",
        "exclusiveMinimum": ">",
        "maximum": "≤",
        "exclusiveMaximum": "<",
        "maxLength": "length ≤",
    }
    found = [f"{sign} {schema[name]:g}" for name, sign in words.items() if name in schema]
    return f" {', '.join(found)}" if found else ""
