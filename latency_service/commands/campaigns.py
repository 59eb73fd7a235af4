"""``latency-service campaigns``: have a set of architectures measured, and a predictor trained from them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from latency_service.commands import common
from latency_service.commands.common import DEFAULT_URL, Json, Server, Token
from latency_service.commands.watching import watch_campaign

campaigns = common.group("campaigns", "Have architectures measured, and a predictor trained from them.")


@campaigns.command("list")
def list_campaigns(
    device: Annotated[str | None, typer.Option(help="On this device only.")] = None,
    space: Annotated[str | None, typer.Option(help="Of this search space only.")] = None,
    state: Annotated[str | None, typer.Option(help="running, done, failed or cancelled.")] = None,
    server: Server = DEFAULT_URL, token: Token = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Campaigns, newest first."""
    rows = common.fetch(server, token, "/v1/campaigns", device=device, space_id=space, state=state)
    if as_json:
        return common.print_json(rows)
    return common.print_table(
        rows,
        [("campaign", "id"), ("device", "device"), ("space", lambda row: row["space_id"][:12]),
         ("purpose", "purpose"), ("state", "state"), ("phase", "phase"),
         ("measured", lambda row: f"{row['architectures_measured']}/{row['architectures_total']}"),
         ("predictor", "predictor_id"), ("created", common.moment("created_at"))],
        "No campaign yet: make one with `latency-service campaigns create --space ID --device NAME`.",
    )  # fmt: skip


@campaigns.command("show")
def show_campaign(campaign: str, server: Server = DEFAULT_URL, token: Token = None, as_json: Json = False) -> None:
    """One campaign."""
    _print(common.fetch(server, token, f"/v1/campaigns/{common.segment(campaign)}"), as_json)


@campaigns.command("create")
def create_campaign(
    space: Annotated[str, typer.Option(help="Search space: id, or a unique beginning of one.")],
    device: Annotated[str, typer.Option(help="Name of the device to measure on.")],
    count: Annotated[int, typer.Option(min=8, max=20000, help="Architectures to sample.")] = 120,
    repeats: Annotated[int, typer.Option(min=0, help="Of them measured twice, for the repeat difference.")] = 12,
    widths: Annotated[
        Path | None,
        typer.Option(help="Measure these architectures (a JSON list of width vectors) and train nothing."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=256, help="Architectures per job.")] = 16,
    threads: Annotated[int, typer.Option(min=1, help="Intra-op threads of the target.")] = 1,
    batch: Annotated[int, typer.Option(min=1, help="Images per run of the target.")] = 1,
    provider: Annotated[str, typer.Option(help="Execution provider of the target.")] = "CPUExecutionProvider",
    precision: Annotated[str, typer.Option(help="fp32 or int8.")] = "fp32",
    seed: Annotated[int, typer.Option(help="Of the sample.")] = 0,
    watch: Annotated[bool, typer.Option("--watch", help="Follow it until it ends.")] = False,
    server: Server = DEFAULT_URL, token: Token = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Start a campaign: find the target's lattice if it has none, measure a sample, train a predictor."""
    body: dict[str, Any] = {
        "space_id": space, "device": device, "batch_size": batch_size, "seed": seed,
        "runtime": {"provider": provider, "intra_threads": threads, "batch": batch, "precision": precision},
    }  # fmt: skip
    if widths is not None:
        body |= {"purpose": "measure", "widths": common.read_json(widths)}
    else:
        body |= {"purpose": "predictor", "count": count, "repeats": repeats}
    view = common.send(server, token, "/v1/campaigns", body)
    if watch:
        return watch_campaign(server, token, view["id"], as_json)
    _print(view, as_json)
    if not as_json:
        print(f"\nFollow it:\n  latency-service campaigns watch {view['id']}")
    return None


@campaigns.command("watch")
def watch(campaign: str, server: Server = DEFAULT_URL, token: Token = None, as_json: Json = False) -> None:
    """Follow a campaign until it ends: phase, counts, time left. With --json one line for each change.

    Exits with 1 when the campaign fails or is cancelled.
    """
    watch_campaign(server, token, common.segment(campaign), as_json)


@campaigns.command("cancel")
def cancel(campaign: str, server: Server = DEFAULT_URL, token: Token = None, as_json: Json = False) -> None:
    """Stop a campaign; what was measured stays."""
    _print(common.send(server, token, f"/v1/campaigns/{common.segment(campaign)}/cancel"), as_json)


def _print(view: dict[str, Any], as_json: bool) -> None:
    if as_json:
        return common.print_json(view)
    return common.print_fields(
        {
            **{key: view[key] for key in ("id", "device", "space_id", "purpose", "state", "phase")},
            "runtime": common.runtime_key(view),
            "measured": f"{view['architectures_measured']} of {view['architectures_total']} architectures",
            "jobs": f"{view['jobs_done']} of {view['jobs_total']} done, {view['jobs_failed']} failed",
            **{key: view[key] for key in ("created_at", "finished_at", "predictor_id", "failure")},
        }
    )
