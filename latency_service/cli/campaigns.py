"""``latency-service campaigns``: have a set of architectures measured, and a predictor trained from
them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from latency_service.cli import campaign_options, common, target_options
from latency_service.cli.common import DeviceFilter, Server, SpaceFilter, Token
from latency_service.cli.watching import COLUMNS, error_summary, watch_campaign
from latency_service.core import exit_codes
from latency_service.core.credentials import DEFAULT_URL
from latency_service.core.runtimes import DEFAULT_PROVIDER
from latency_service.core.terminal import completion
from latency_service.core.terminal.options import shows
from latency_service.core.terminal.output import Output

if TYPE_CHECKING:
    from latency_service.campaigns.schemas import CampaignView
    from latency_service.core.client import Client

campaigns = common.group(
    "campaigns", "Have architectures measured, and a predictor trained from them."
)

_Campaign = Annotated[
    str, typer.Argument(help="Id of the campaign.", autocompletion=completion.campaigns)
]
_State = Literal["running", "done", "failed", "cancelled"]


@campaigns.command("list")
@shows
def list_campaigns(
    output: Output,
    device: DeviceFilter = None,
    space: SpaceFilter = None,
    state: Annotated[
        _State | None,
        typer.Option(
            help="Show only campaigns in this state.",
            rich_help_panel=common.FILTER,
        ),
    ] = None,
    server: Server = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Campaigns, newest first."""
    with common.connect(server, token) as client:
        rows = client.campaigns(device=device, space_id=space, state=state)
    output.table(
        rows,
        COLUMNS,
        "No campaign yet: make one with `latency-service campaigns create --space ID --device "
        "NAME`.",
    )


@campaigns.command("show")
@shows
def show_campaign(
    campaign: _Campaign, output: Output, server: Server = DEFAULT_URL, token: Token = None
) -> None:
    """One campaign."""
    with common.connect(server, token) as client:
        _show(client.campaign(campaign), output)


@campaigns.command("create")
@shows
def create_campaign(
    space: campaign_options.Space,
    output: Output,
    device: campaign_options.Device = None,
    target_threads: target_options.Threads = 1,
    target_batch: target_options.Batch = 1,
    target_provider: target_options.Provider = DEFAULT_PROVIDER,
    target_precision: target_options.Precision = "fp32",
    architectures: campaign_options.Architectures = None,
    repeats: campaign_options.Repeats = None,
    peer_repeats: campaign_options.PeerRepeats = None,
    near: campaign_options.Near = None,
    seed: campaign_options.Seed = 0,
    widths: campaign_options.Widths = None,
    error_goal: campaign_options.ErrorGoal = None,
    time_limit: campaign_options.TimeLimit = None,
    repair: campaign_options.Repair = False,
    batch_size: campaign_options.JobSize = 16,
    watch: campaign_options.Watch = False,
    server: Server = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Start a campaign: find the target's lattice if it has none, measure a sample, train a
    predictor.

    Ctrl-C ends --watch; the campaign goes on.
    """
    sample = campaign_options.sample_fields(
        count=architectures,
        repeats=repeats,
        peer_repeats=peer_repeats,
        repair=repair or None,
        near=near,
        error_goal=error_goal,
        time_limit=time_limit,
    )
    body = {
        "batch_size": batch_size,
        "seed": seed,
        "runtime": target_options.runtime_fields(
            target_provider, target_threads, target_batch, target_precision
        ),
        **campaign_options.purpose_fields(widths, sample),
    }
    with common.connect(server, token) as client:
        view = _create(client, space, device, body)
    if watch:
        watch_campaign(server, token, view.id, output)
        return
    _show(view, output)
    output.remark(f"\nFollow it:\n  latency-service campaigns watch {view.id}")


@campaigns.command("watch")
@shows
def watch(
    campaign: _Campaign, output: Output, server: Server = DEFAULT_URL, token: Token = None
) -> None:
    """Follow a campaign until it ends: phase, counts, time left. With --json or --csv one line for
    each change.

    Exits with 1 when the campaign fails or is cancelled. Ctrl-C ends the following; the campaign
    goes on.
    """
    watch_campaign(server, token, campaign, output)


@campaigns.command("cancel")
@shows
def cancel(
    campaign: _Campaign, output: Output, server: Server = DEFAULT_URL, token: Token = None
) -> None:
    """Stop a campaign; what was measured stays."""
    with common.connect(server, token) as client:
        _show(client.cancel_campaign(campaign), output)


def _create(client: Client, space: str, device: str | None, body: dict[str, Any]) -> CampaignView:
    from latency_service.campaigns.schemas import CampaignRequest

    body |= {"space_id": _space_id(client, space), "device": device or _only_device(client)}
    return client.create_campaign(common.request_of(CampaignRequest, body))


def _space_id(client: Client, space: str) -> str:
    if not Path(space).is_file():
        return space
    view, _ = client.upload_space(common.read_input(Path(space)))
    return view.id


def _only_device(client: Client) -> str:
    names = [device.name for device in client.devices() if device.imported_from is None]
    if len(names) != 1:
        raise common.CommandError(
            f"The device is ambiguous: there are {', '.join(names) or 'none'}.",
            "Choose one with --device, or start an agent with `latency-service up`.",
            exit_code=exit_codes.USAGE,
            code="which_device",
        )
    return names[0]


def _show(view: CampaignView, output: Output) -> None:
    if output.form == "csv":
        output.table([view], COLUMNS, "")
    else:
        output.record(view, {**_state(view), **_goals(view), **_errors(view)})


def _state(view: CampaignView) -> dict[str, Any]:
    measured = f"{view.architectures_measured} of {view.architectures_total} architectures"
    return {
        **common.fields_of(view, "id", "device", "space_id", "purpose", "state", "phase"),
        "runtime": view.runtime.key,
        "measured": measured,
        "jobs": f"{view.jobs_done} of {view.jobs_total} done, {view.jobs_failed} failed",
        **common.fields_of(view, "created_at", "finished_at", "predictor_id", "failure"),
    }


def _goals(view: CampaignView) -> dict[str, Any]:
    fields = common.fields_of(view, "goal_percent", "goal_met", "at_most_seconds", "around")
    return {name: value for name, value in fields.items() if value is not None}


def _errors(view: CampaignView) -> dict[str, Any]:
    return {f"trained on {one.measurements}": error_summary(one) for one in view.rounds}
