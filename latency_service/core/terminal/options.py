"""The flags ``--json`` and ``--csv`` of every command that shows something."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Annotated, Any, get_type_hints

import typer

from latency_service.core.terminal.output import Form, Output

#: Panel of the help for options about what is printed.
OUTPUT = "Output"

Json = Annotated[
    bool, typer.Option("--json", help="Print JSON instead of tables.", rich_help_panel=OUTPUT)
]
Csv = Annotated[
    bool, typer.Option("--csv", help="Print CSV instead of tables.", rich_help_panel=OUTPUT)
]


def shows(command: Callable[..., None]) -> Callable[..., None]:
    """Replace the parameter `output` of a command by the flags of its form."""
    hints = get_type_hints(command, include_extras=True)
    own = [
        parameter.replace(annotation=hints[name])
        for name, parameter in inspect.signature(command).parameters.items()
        if name != "output"
    ]
    flags = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
        for name, kind in (("as_json", Json), ("as_csv", Csv))
    ]

    def run(*, as_json: bool, as_csv: bool, **given: Any) -> None:
        command(output=Output(_form(as_json, as_csv)), **given)

    return with_parameters(run, command, [*own, *flags])


def with_parameters(
    run: Callable[..., None], command: Callable[..., None], parameters: Sequence[inspect.Parameter]
) -> Callable[..., None]:
    """`run` as typer sees it: the name and the help of `command`, and these parameters."""
    run.__doc__ = command.__doc__
    run.__name__ = command.__name__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run


def _form(as_json: bool, as_csv: bool) -> Form:
    if as_json and as_csv:
        raise typer.BadParameter("--json and --csv exclude each other.")
    if as_json:
        return "json"
    return "csv" if as_csv else "text"
