"""``latency-service campaigns``: have a set of architectures measured, and a predictor trained from
them.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from latency_service.cli import common
from latency_service.cli.common import Json, Server, Token
from latency_service.cli.predictors import parse_widths
from latency_service.cli.watching import sureness, watch_campaign
from latency_service.core.credentials import DEFAULT_URL
from latency_service.core.transport import Transport

campaigns = common.group(
    "campaigns", "Have architectures measured, and a predictor trained from them."
)


@campaigns.command("list")
def list_campaigns(
    device: Annotated[str | None, typer.Option(help="On this device only.")] = None,
    space: Annotated[str | None, typer.Option(help="Of this search space only.")] = None,
    state: Annotated[str | None, typer.Option(help="running, done, failed or cancelled.")] = None,
    server: Server = DEFAULT_URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Campaigns, newest first."""
    rows = common.fetch(server, token, "/v1/campaigns", device=device, space_id=space, state=state)
    if as_json:
        return common.print_json(rows)
    return common.print_table(
        rows,
        [
            ("campaign", "id"),
            ("device", "device"),
            ("space", lambda row: row["space_id"][:12]),
            ("purpose", "purpose"),
            ("state", "state"),
            ("phase", "phase"),
            (
                "measured",
                lambda row: f"{row['architectures_measured']}/{row['architectures_total']}",
            ),
            ("predictor", "predictor_id"),
            ("created", common.moment("created_at")),
        ],
        "No campaign yet: make one with `latency-service campaigns create --space ID --device "
        "NAME`.",
    )


@campaigns.command("show")
def show_campaign(
    campaign: str, server: Server = DEFAULT_URL, token: Token = None, as_json: Json = False
) -> None:
    """One campaign."""
    _print(common.fetch(server, token, f"/v1/campaigns/{common.segment(campaign)}"), as_json)


@campaigns.command("create")
def create_campaign(
    space: Annotated[
        str,
        typer.Option(
            help="Search space: id, a unique beginning of one, or a space file, which is uploaded."
        ),
    ],
    device: Annotated[
        str | None, typer.Option(help="Device to measure on; may be left out if there is one.")
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(
            min=8,
            max=20000,
            show_default=False,
            help=(
                "Architectures to sample (at most, with --goal). By default 120, 400 with "
                "--goal, 15 with --repair."
            ),
        ),
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option(
            min=0,
            show_default=False,
            help=(
                "Of them measured twice, for the repeat difference. By default a tenth, 12 at most."
            ),
        ),
    ] = None,
    goal: Annotated[
        str | None,
        typer.Option(
            help="Go on in rounds until the held-out error is surely at most this, as in 3%."
        ),
    ] = None,
    at_most: Annotated[
        str | None, typer.Option(help="Time for everything, as in 10m, 90s or 1h.")
    ] = None,
    around: Annotated[
        str | None, typer.Option(help="Measure near these widths, as in 16,32,64.")
    ] = None,
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="The device has changed: measure a few and train from the stale predictor.",
        ),
    ] = False,
    widths: Annotated[
        Path | None,
        typer.Option(
            help="Measure these architectures (a JSON list of width vectors) and train nothing."
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=256, help="Architectures per job.")] = 16,
    threads: Annotated[int, typer.Option(min=1, help="Intra-op threads of the target.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Images per run of the target.")] = 1,
    provider: Annotated[
        str, typer.Option(help="Execution provider of the target.")
    ] = "CPUExecutionProvider",
    precision: Annotated[str, typer.Option(help="fp32 or int8.")] = "fp32",
    seed: Annotated[int, typer.Option(help="Of the sample.")] = 0,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it until it ends.")] = False,
    server: Server = DEFAULT_URL,
    token: Token = None,
    as_json: Json = False,
) -> None:
    """Start a campaign: find the target's lattice if it has none, measure a sample, train a
    predictor.
    """
    body: dict[str, Any] = {
        "batch_size": batch_size,
        "seed": seed,
        "runtime": {
            "provider": provider,
            "intra_threads": threads,
            "batch": batch,
            "precision": precision,
        },
    }
    if widths is not None:
        body |= {"purpose": "measure", "widths": common.read_json(widths)}
    else:
        wanted = {
            "count": count,
            "repeats": repeats,
            "repair": repair or None,
            "goal_percent": None if goal is None else parse_percent(goal),
            "at_most_seconds": None if at_most is None else parse_seconds(at_most),
            "around": None if around is None else parse_widths(around)[0],
        }
        body |= {
            "purpose": "predictor",
            **{name: value for name, value in wanted.items() if value is not None},
        }
    with common.connect(server, token) as service:
        body |= {"space_id": _space_id(service, space), "device": device or _only_device(service)}
        view = service.request("POST", "/v1/campaigns", json=body).json()
    if watch:
        return watch_campaign(server, token, view["id"], as_json)
    _print(view, as_json)
    if not as_json:
        print(f"\nFollow it:\n  latency-service campaigns watch {view['id']}")
    return None


@campaigns.command("watch")
def watch(
    campaign: str, server: Server = DEFAULT_URL, token: Token = None, as_json: Json = False
) -> None:
    """Follow a campaign until it ends: phase, counts, time left. With --json one line for each
    change.

    Exits with 1 when the campaign fails or is cancelled.
    """
    watch_campaign(server, token, common.segment(campaign), as_json)


@campaigns.command("cancel")
def cancel(
    campaign: str, server: Server = DEFAULT_URL, token: Token = None, as_json: Json = False
) -> None:
    """Stop a campaign; what was measured stays."""
    _print(common.send(server, token, f"/v1/campaigns/{common.segment(campaign)}/cancel"), as_json)


def parse_percent(argument: str) -> float:
    """The number in ``3%`` or ``3``.

    Raises:
        CommandError: it is none.
    """
    return _number(argument, argument.strip().removesuffix("%"), 1.0, "--goal", "3%")


def parse_seconds(argument: str) -> float:
    """The seconds in ``90s``, ``10m``, ``1h`` or ``600``.

    Raises:
        CommandError: it is no duration.
    """
    text = argument.strip()
    unit = {"s": 1.0, "m": 60.0, "h": 3600.0}.get(text[-1:])
    return _number(argument, text if unit is None else text[:-1], unit or 1.0, "--at-most", "10m")


def _number(argument: str, digits: str, unit: float, option: str, example: str) -> float:
    try:
        value = float(digits) * unit
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise common.CommandError(
            f"{option} {argument!r} cannot be understood.",
            f"Give it as in {option} {example}.",
            exit_code=common.INVALID,
            code="bad_option",
        )
    return value


def _space_id(service: Transport, space: str) -> str:
    if not Path(space).is_file():
        return space
    content = common.read_input(Path(space))
    headers = {"content-type": "application/octet-stream"}
    return str(service.request("POST", "/v1/spaces", content=content, headers=headers).json()["id"])


def _only_device(service: Transport) -> str:
    names = [device["name"] for device in service.request("GET", "/v1/devices").json()]
    if len(names) != 1:
        raise common.CommandError(
            f"There is no telling which device is meant: there are {', '.join(names) or 'none'}.",
            "Choose one with --device, or start an agent with `latency-service up`.",
            exit_code=common.USAGE,
            code="which_device",
        )
    return str(names[0])


def _print(view: dict[str, Any], as_json: bool) -> None:
    if as_json:
        return common.print_json(view)
    return common.print_fields(
        {
            **{key: view[key] for key in ("id", "device", "space_id", "purpose", "state", "phase")},
            "runtime": common.runtime_key(view),
            "measured": (
                f"{view['architectures_measured']} of {view['architectures_total']} architectures"
            ),
            "jobs": (
                f"{view['jobs_done']} of {view['jobs_total']} done, {view['jobs_failed']} failed"
            ),
            **{key: view[key] for key in ("created_at", "finished_at", "predictor_id", "failure")},
            **{
                key: view[key]
                for key in ("goal_percent", "goal_met", "at_most_seconds", "around")
                if view[key] is not None
            },
            **{f"trained on {one['measurements']}": sureness(one) for one in view["rounds"]},
        }
    )
