"""The reference of the HTTP API, from its OpenAPI description."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from latency_service.app import create_app
from latency_service.settings import Settings
from latency_service.web.answers import COMMON_ERRORS
from latency_service.web.reference import Operation, by_tag, schemas
from tools.documentation.markdown import prose, table

#: Status and meaning of the answers that every operation has; the page names them once.
_COMMON = {(str(status), answer["description"]) for status, answer in COMMON_ERRORS.items()}
#: Name of a schema: other types are in lower case.
_SCHEMA = re.compile(r"\b[A-Z]\w+")


def page() -> str:
    """The operations by tag, then the schemas of their bodies."""
    document = description()
    lines = [line for tag, found in by_tag(document).items() for line in _tag(tag, found)]
    common = table(["status", "meaning"], sorted(_COMMON))
    return "\n".join(["## Answers of all\n", *common, *lines, *_schemas(document)])


def description() -> dict[str, Any]:
    """The service's OpenAPI document."""
    with tempfile.TemporaryDirectory() as folder:
        return create_app(Settings(data_dir=Path(folder))).openapi()


def _tag(tag: str, operations: list[Operation]) -> Iterator[str]:
    yield f"## {tag}\n"
    for one in operations:
        yield f"### {one.method} {one.path}\n"
        yield f"{prose(one.description or one.summary)}\n"
        if one.access:
            yield f"Access: {one.access}.\n"
        yield from table(
            ["parameter", "in", "type", "meaning"],
            (
                [f"`{entry['name']}`", entry["place"], entry["type"], prose(entry["description"])]
                for entry in one.parameters
            ),
        )
        for media, kind in one.body:
            yield f"Body: {_linked(kind)} as `{media}`.\n"
        yield from table(
            ["status", "content", "meaning"],
            (
                [status, _contents(content), prose(meaning.replace("Successful Response", ""))]
                for status, meaning, content in one.answers
                if (status, meaning) not in _COMMON
            ),
        )


def _contents(content: list[tuple[str, str]]) -> str:
    return ", ".join(f"{_linked(kind)} as `{media}`" for media, kind in content)


def _linked(kind: str) -> str:
    """The words for a type, with links to the schemas in them."""
    return _SCHEMA.sub(lambda name: f"[{name[0]}](#{name[0].lower()})", kind)


def _schemas(document: dict[str, Any]) -> Iterator[str]:
    yield "## Schemas\n"
    for name, meaning, fields in schemas(document):
        yield f"### {name}\n"
        if meaning:
            yield f"{prose(meaning)}\n"
        yield from table(
            ["field", "type", "", "meaning"],
            (
                [
                    f"`{field['name']}`",
                    _linked(field["type"]),
                    "required" if field["required"] else "",
                    prose(field["description"]),
                ]
                for field in fields
            ),
        )
