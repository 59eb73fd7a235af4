"""``latency-service campaigns``: have a set of architectures measured, and a predictor trained from
them.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from latency_service.campaigns.schemas import CampaignRequest, CampaignView
from latency_service.cli import common, target_options
from latency_service.cli.common import Json, Server, Token
from latency_service.cli.predictors import parse_widths
from latency_service.cli.watching import error_summary, watch_campaign
from latency_service.core import exit_codes
from latency_service.core.credentials import DEFAULT_URL
from latency_service.core.units import parse_duration

if TYPE_CHECKING:
    from latency_service.core.client import Client

campaigns = common.group(
    "campaigns", "Have architectures measured, and a predictor trained from them."
)

_SAMPLE = "Sample"
_END = "End of the campaign"


@campaigns.command("list")
def list_campaigns(
    device: Annotated[str | None, typer.Option(help="Show only campaigns on this device.")] = None,
    space: Annotated[str | None, typer.Option(help="Show only those of this search space.")] = None,
    state: Annotated[
        str | None,
        typer.Option(help="Show only campaigns in this state: running, done, failed or cancelled."),
    ] = None,
    server: Server = DEFAULT_URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Campaigns, newest first."""
    with common.connect(server, token) as client:
        rows = client.campaigns(device=device, space_id=space, state=state)
    if as_json:
        return common.print_json(rows)
    return common.print_table(
        rows,
        [
            ("campaign", "id"),
            ("device", "device"),
            ("space", lambda row: row.space_id[:12]),
            ("purpose", "purpose"),
            ("state", "state"),
            ("phase", "phase"),
            (
                "measured",
                lambda row: f"{row.architectures_measured}/{row.architectures_total}",
            ),
            ("predictor", "predictor_id"),
            ("created", "created_at"),
        ],
        "No campaign yet: make one with `latency-service campaigns create --space ID --device "
        "NAME`.",
    )


@campaigns.command("show")
def show_campaign(
    campaign: str, server: Server = DEFAULT_URL, token: Token = None, as_json: Json = False
) -> None:
    """One campaign."""
    with common.connect(server, token) as client:
        _print(client.campaign(campaign), as_json)


@campaigns.command("create")
def create_campaign(
    space: Annotated[
        str,
        typer.Option(
            help="Search space: its id, a unique prefix of one, or a space file to upload."
        ),
    ],
    device: Annotated[
        str | None,
        typer.Option(
            help="Device to measure on; optional where there is only one.",
            rich_help_panel=target_options.PANEL,
        ),
    ] = None,
    target_threads: target_options.Threads = 1,
    target_batch: target_options.Batch = 1,
    target_provider: target_options.Provider = target_options.DEFAULT.provider,
    target_precision: target_options.Precision = "fp32",
    architectures: Annotated[
        int | None,
        typer.Option(
            min=8,
            max=20000,
            show_default=False,
            help="Number of architectures to sample; with --error-goal the maximum. Default: 120, "
            "400 with --error-goal, 15 with --repair.",
            rich_help_panel=_SAMPLE,
        ),
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(
            min=0,
            show_default=False,
            help="Number of architectures to measure twice, for the repeat difference. Default: a "
            "tenth, 12 at most.",
            rich_help_panel=_SAMPLE,
        ),
    ] = None,
    near: Annotated[
        str | None,
        typer.Option(help="Sample near these widths, as in 16,32,64.", rich_help_panel=_SAMPLE),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the sample.", rich_help_panel=_SAMPLE)] = 0,
    widths: Annotated[
        Path | None,
        typer.Option(
            help="Measure these architectures (a JSON list of width vectors) and train nothing.",
            rich_help_panel=_SAMPLE,
        ),
    ] = None,
    error_goal: Annotated[
        str | None,
        typer.Option(
            help="Measure in rounds until the upper confidence bound of the held-out error is at "
            "most this, as in 3%.",
            rich_help_panel=_END,
        ),
    ] = None,
    time_limit: Annotated[
        str | None,
        typer.Option(
            help="Time limit of the whole campaign, as in 10m, 90s or 1h.", rich_help_panel=_END
        ),
    ] = None,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="The device has changed: measure a few architectures and train from the stale "
            "predictor.",
        ),
    ] = False,
    batch_size: Annotated[
        int, typer.Option("--job-size", min=1, max=256, help="Number of architectures per job.")
    ] = 16,
    watch: Annotated[
        bool, typer.Option("--watch", help="Follow the campaign until it ends.")
    ] = False,
    server: Server = DEFAULT_URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Start a campaign: find the target's lattice if it has none, measure a sample, train a
    predictor.
    """
    sample = {
        "count": architectures,
        "repeats": repeats,
        "repair": repair or None,
        "goal_percent": None if error_goal is None else parse_percent(error_goal),
        "at_most_seconds": None if time_limit is None else parse_seconds(time_limit),
        "around": None if near is None else parse_widths(near)[0],
    }
    body: dict[str, Any] = {
        "batch_size": batch_size,
        "seed": seed,
        "runtime": {
            "provider": target_provider,
            "intra_threads": target_threads,
            "batch": target_batch,
            "precision": target_precision,
        },
        **_purpose(widths, sample),
    }
    with common.connect(server, token) as client:
        body |= {"space_id": _space_id(client, space), "device": device or _only_device(client)}
        view = client.create_campaign(common.request_of(CampaignRequest, body))
    if watch:
        return watch_campaign(server, token, view.id, as_json)
    _print(view, as_json)
    if not as_json:
        print(f"\nFollow it:\n  latency-service campaigns watch {view.id}")
    return None


@campaigns.command("watch")
def watch(
    campaign: str, server: Server = DEFAULT_URL, token: Token = None, as_json: Json = False
) -> None:
    """Follow a campaign until it ends: phase, counts, time left. With --json one line for each
    change.

    Exits with 1 when the campaign fails or is cancelled.
    """
    watch_campaign(server, token, campaign, as_json)


@campaigns.command("cancel")
def cancel(
    campaign: str, server: Server = DEFAULT_URL, token: Token = None, as_json: Json = False
) -> None:
    """Stop a campaign; what was measured stays."""
    with common.connect(server, token) as client:
        _print(client.cancel_campaign(campaign), as_json)


def _purpose(widths: Path | None, sample: dict[str, Any]) -> dict[str, Any]:
    """The part of a request that says what is measured: given widths, or a sample to train on."""
    if widths is not None:
        return {"purpose": "measure", "widths": common.read_json(widths)}
    wanted = {name: value for name, value in sample.items() if value is not None}
    return {"purpose": "predictor", **wanted}


def parse_percent(argument: str) -> float:
    """The number in ``3%`` or ``3``.

    Raises:
        CommandError: it is none.
    """
    try:
        percent = float(argument.strip().removesuffix("%"))
    except ValueError:
        percent = math.nan
    if not (math.isfinite(percent) and percent > 0):
        raise _bad_option("--error-goal", argument, "3%")
    return percent


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


def _space_id(client: Client, space: str) -> str:
    if not Path(space).is_file():
        return space
    view, _ = client.upload_space(common.read_input(Path(space)))
    return view.id


def _only_device(client: Client) -> str:
    names = [device.name for device in client.devices()]
    if len(names) != 1:
        raise common.CommandError(
            f"There is no telling which device is meant: there are {', '.join(names) or 'none'}.",
            "Choose one with --device, or start an agent with `latency-service up`.",
            exit_code=exit_codes.USAGE,
            code="which_device",
        )
    return names[0]


def _print(view: CampaignView, as_json: bool) -> None:
    if as_json:
        return common.print_json(view)
    optional = common.fields_of(view, "goal_percent", "goal_met", "at_most_seconds", "around")
    return common.print_fields(
        {
            **common.fields_of(view, "id", "device", "space_id", "purpose", "state", "phase"),
            "runtime": view.runtime.key,
            "measured": (
                f"{view.architectures_measured} of {view.architectures_total} architectures"
            ),
            "jobs": f"{view.jobs_done} of {view.jobs_total} done, {view.jobs_failed} failed",
            **common.fields_of(view, "created_at", "finished_at", "predictor_id", "failure"),
            **{name: value for name, value in optional.items() if value is not None},
            **{f"trained on {one.measurements}": error_summary(one) for one in view.rounds},
        }
    )
