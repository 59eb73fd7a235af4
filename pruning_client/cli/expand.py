"""Typer commands whose options are the fields of a dataclass."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from dataclasses import MISSING, fields
from typing import Any, get_type_hints

from latency_service.core.terminal.options import with_parameters


def takes_options(
    command: Callable[..., None], *, without: Collection[str] = ()
) -> Callable[..., None]:
    """Replace the parameter `options` of a command by the fields of its dataclass, whose first two
    are the model and the data.

    Args:
        without: Fields that are no options of the command and keep their defaults.
    """
    hints = get_type_hints(command, include_extras=True)
    kind = hints["options"]
    own = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[name])
        for name, parameter in inspect.signature(command).parameters.items()
        if name != "options"
    ]
    shared = [entry for entry in _shared_parameters(kind) if entry.name not in without]

    def run(**given: Any) -> None:
        options = kind(**{parameter.name: given.pop(parameter.name) for parameter in shared})
        command(options=options, **given)

    return with_parameters(run, command, [*shared[:2], *own, *shared[2:]])


def _shared_parameters(kind: type[Any]) -> list[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    return [
        inspect.Parameter(
            entry.name,
            inspect.Parameter.KEYWORD_ONLY,
            annotation=hints[entry.name],
            default=inspect.Parameter.empty if entry.default is MISSING else entry.default,
        )
        for entry in fields(kind)
    ]
