"""The reference of the settings, from their class: name, default and the comment above each."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic.fields import FieldInfo

from latency_service.settings import Settings
from tools.documentation.markdown import prose, table

_COMMENT = re.compile(r"^ +#: ?(.*)$")
_FIELD = re.compile(r"^    (\w+): ")
_SIGNS = {Ge: ("≥", "ge"), Gt: (">", "gt"), Le: ("≤", "le"), Lt: ("<", "lt")}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One environment variable."""

    variable: str
    default: str
    #: Empty where the class says nothing about it.
    meaning: str


def settings() -> Iterator[Setting]:
    """All settings in the order of the class."""
    prefix = Settings.model_config["env_prefix"]
    meanings = _comments(inspect.getsource(Settings))
    for name, field in Settings.model_fields.items():
        yield Setting(
            variable=f"{prefix}{name.upper()}",
            default=f"{_default(field)}{_bounds(field)}",
            meaning=meanings.get(name, ""),
        )


def page() -> str:
    """The table of all settings."""
    rows = ((f"`{one.variable}`", one.default, prose(one.meaning)) for one in settings())
    return "\n".join(table(["variable", "default", "meaning"], rows))


def _comments(source: str) -> dict[str, str]:
    """The comment directly above each field."""
    found: dict[str, str] = {}
    waiting: list[str] = []
    for line in source.splitlines():
        if comment := _COMMENT.match(line):
            waiting.append(comment[1])
            continue
        if waiting and (field := _FIELD.match(line)):
            found[field[1]] = " ".join(waiting)
        waiting = []
    return found


def _default(field: FieldInfo) -> str:
    if field.default_factory is not None:
        return "the user's data directory"
    value: Any = field.default
    if value is None or value == "":
        return "unset"
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:,}".replace(",", "\N{THIN SPACE}") if isinstance(value, int) else f"{value}"


def _bounds(field: FieldInfo) -> str:
    found = [
        f"{sign} {getattr(bound, attribute):,g}".replace(",", "\N{THIN SPACE}")
        for bound in field.metadata
        for kind, (sign, attribute) in _SIGNS.items()
        if isinstance(bound, kind)
    ]
    found += [f"≥ {one.min_length} characters" for one in field.metadata if isinstance(one, MinLen)]
    return f" ({', '.join(found)})" if found else ""
