"""Commands that stand in files for people are checked against the command line itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import typer

from latency_service.cli.main import app as latency_service


def check_command(words: Sequence[str], app: typer.Typer = latency_service) -> None:
    """Parse a command as the command line would, without running it."""
    command: Any = typer.main.get_command(app)
    context = command.make_context("command", list(words), resilient_parsing=True)
    remaining = [*context._protected_args, *context.args]
    while hasattr(command, "commands"):
        command = command.commands[remaining[0]]
        parsed = command.make_context(
            command.name, list(remaining[1:]), ignore_unknown_options=False
        )
        remaining = [*getattr(parsed, "_protected_args", []), *parsed.args]
    assert remaining == []


def leaves(app: typer.Typer) -> list[tuple[str, Any]]:
    """Every command with the words that lead to it."""
    found: list[tuple[str, Any]] = []
    waiting: list[tuple[str, Any]] = [("", typer.main.get_command(app))]
    while waiting:
        path, command = waiting.pop()
        for name, one in getattr(command, "commands", {}).items():
            (waiting if hasattr(one, "commands") else found).append((f"{path} {name}".strip(), one))
    return found
