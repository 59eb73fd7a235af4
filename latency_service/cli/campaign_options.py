"""Options of ``latency-service campaigns create``, and the parts of the request made from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from latency_service.cli import common, target_options
from latency_service.cli.predictors import parse_widths
from latency_service.core import exit_codes
from latency_service.core.terminal import completion
from latency_service.core.units import parse_duration, parse_percent

_SAMPLE = "Sample"
_END = "End of the campaign"
_RUN = "Run of the campaign"

Space = Annotated[
    str,
    typer.Option(
        "--space",
        help="Search space: its id, a unique prefix of one, or a space file to upload.",
        autocompletion=completion.spaces,
        rich_help_panel=_SAMPLE,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        help="Device to measure on; optional where there is only one.",
        autocompletion=completion.devices,
        rich_help_panel=target_options.PANEL,
    ),
]
Architectures = Annotated[
    int | None,
    typer.Option(
        "--architectures",
        min=10,
        max=20000,
        show_default=False,
        help="Number of architectures to sample; with --error-goal the maximum. Default: 120, "
        "400 with --error-goal, 15 with --repair.",
        rich_help_panel=_SAMPLE,
    ),
]
Repeats = Annotated[
    int | None,
    typer.Option(
        "--repeats",
        min=0,
        show_default=False,
        help="Number of architectures to measure twice, for the repeat difference. Default: a "
        "tenth, 12 at most.",
        rich_help_panel=_SAMPLE,
    ),
]
PeerRepeats = Annotated[
    int | None,
    typer.Option(
        "--peer-repeats",
        min=0,
        max=64,
        show_default=False,
        help="Number of architectures that another device with the same fingerprint measures too, "
        "if there is one. Default: a twentieth, 3 to 12.",
        rich_help_panel=_SAMPLE,
    ),
]
Near = Annotated[
    str | None,
    typer.Option(
        "--near", help="Sample near these widths, as in 16,32,64.", rich_help_panel=_SAMPLE
    ),
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the sample.", rich_help_panel=_SAMPLE)]
Widths = Annotated[
    Path | None,
    typer.Option(
        "--widths",
        help="Measure these architectures (a JSON list of width vectors) and train nothing.",
        rich_help_panel=_SAMPLE,
    ),
]
Repair = Annotated[
    bool,
    typer.Option(
        "--repair",
        help="The device has changed: measure a few architectures and train from the stale "
        "predictor.",
        rich_help_panel=_SAMPLE,
    ),
]
ErrorGoal = Annotated[
    str | None,
    typer.Option(
        "--error-goal",
        help="Measure in rounds until the upper confidence bound of the held-out error is at "
        "most this, as in 3%.",
        rich_help_panel=_END,
    ),
]
TimeLimit = Annotated[
    str | None,
    typer.Option(
        "--time-limit",
        help="Time limit of the whole campaign, as in 10m, 90s or 1h.",
        rich_help_panel=_END,
    ),
]
JobSize = Annotated[
    int,
    typer.Option(
        "--job-size",
        min=1,
        max=256,
        help="Number of architectures per job.",
        rich_help_panel=_RUN,
    ),
]
Watch = Annotated[
    bool,
    typer.Option("--watch", help="Follow the campaign until it ends.", rich_help_panel=_RUN),
]


def sample_fields(
    *, near: str | None, error_goal: str | None, time_limit: str | None, **counts: int | None
) -> dict[str, Any]:
    """Fields of a request that describe the sample and the end of a predictor's campaign.

    Raises:
        CommandError: one of the options is not valid.
    """
    return {
        **counts,
        "goal_percent": None if error_goal is None else _percent(error_goal),
        "at_most_seconds": None if time_limit is None else parse_seconds(time_limit),
        "around": None if near is None else parse_widths(near)[0],
    }


def purpose_fields(widths: Path | None, sample: dict[str, Any]) -> dict[str, Any]:
    """Fields of a request that say what is measured: given widths, or a sample to train on.

    Fields of a sample are sent with given widths as well: the service refuses those that do not go
    with them.
    """
    given = {name: value for name, value in sample.items() if value is not None}
    if widths is not None:
        return {"purpose": "measure", "widths": common.read_json(widths), **given}
    return {"purpose": "predictor", **given}


def _percent(argument: str) -> float:
    try:
        return parse_percent(argument)
    except ValueError as error:
        raise _bad_option("--error-goal", argument, "3%") from error


def parse_seconds(argument: str) -> float:
    """The seconds in ``90s``, ``10m``, ``1h`` or ``600``.

    Raises:
        CommandError: it is not a valid duration.
    """
    try:
        return parse_duration(argument, default_unit="s")
    except ValueError as error:
        raise _bad_option("--time-limit", argument, "10m") from error


def _bad_option(option: str, argument: str, example: str) -> common.CommandError:
    return common.CommandError(
        f"{option} {argument!r} is not valid.",
        f"Give it as in {option} {example}.",
        exit_code=exit_codes.INVALID,
        code="bad_option",
    )
