"""Command line that a report shows, built from the given options."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any


def prune_command(options: Mapping[str, Any], budget: str) -> str:
    """Command line of ``pruning-client prune`` that repeats a job.

    Args:
        options: Values that differ from the defaults, by field name, without the token.
    """
    return command_line(["prune", "--budget", budget], options)


def command_line(own: Sequence[str], options: Mapping[str, Any]) -> str:
    """Command line of ``pruning-client``.

    Args:
        own: Command, and the options that only it has.
        options: Values of the shared options, by field name, without the token.
    """
    words = ["pruning-client", *own]
    for name, value in options.items():
        words += _words(name.replace("_", "-"), value)
    return shlex.join(words)


def _words(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    if isinstance(value, list):
        return [word for one in value for word in (f"--{name}", str(one))]
    return [f"--{name}", str(value)]
