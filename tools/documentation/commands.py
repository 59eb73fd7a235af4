"""The reference of a command line, from the tree of its commands."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import typer

from tools.documentation.markdown import prose, table

#: Panel of the options that name none.
_OPTIONS = "Options"
#: Commands with more options than this have them under the names of their panels.
_FEW = 8

Row = tuple[str, str]


def commands(app: typer.Typer, program: str) -> Iterator[tuple[str, Any]]:
    """Every command that does something, with the words that call it."""
    yield from _below(typer.main.get_command(app), program)


def page(app: typer.Typer, program: str) -> str:
    """A section for each command: what it does, how it is called, its options."""
    return "\n".join(
        line for name, found in commands(app, program) for line in _section(name, found)
    )


def _below(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    for word, child in getattr(command, "commands", {}).items():
        yield from _below(child, f"{name} {word}")
    if not hasattr(command, "commands"):
        yield name, command


def _section(name: str, command: Any) -> Iterator[str]:
    context = command.make_context(name, [], resilient_parsing=True)
    yield f"## {name.partition(' ')[2]}\n"
    yield f"{prose(inspect.cleandoc(command.help))}\n"
    yield f"```text\n{' '.join([name, *command.collect_usage_pieces(context)])}\n```\n"
    panels: dict[str, list[Row]] = {}
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if record is not None:
            panel = getattr(parameter, "rich_help_panel", None) or _OPTIONS
            panels.setdefault(panel, []).append((f"`{record[0]}`", prose(record[1])))
    yield from table(["option", "meaning"], _rows(panels))
    if command.epilog:
        yield f"{prose(command.epilog)}\n"


def _rows(panels: dict[str, list[Row]]) -> Iterator[Row]:
    """All options, under the names of their panels where there are many."""
    are_many = sum(map(len, panels.values())) > _FEW
    for panel, rows in panels.items():
        if are_many:
            yield f"**{panel}**", ""
        yield from rows
