"""The command that a report shows, built from the options that were given."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any


def prune_command(options: Mapping[str, Any], budget: str) -> str:
    """The ``pruning-client prune`` that does the same job.

    Args:
        options: values that are not at their defaults, by field name; no token among them.
    """
    words = ["pruning-client", "prune", "--budget", budget]
    for name, value in options.items():
        words += _words(name.replace("_", "-"), value)
    return shlex.join(words)


def _words(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name}" if value else f"--no-{name}"]
    if isinstance(value, list):
        return [word for one in value for word in (f"--{name}", str(one))]
    return [f"--{name}", str(value)]
