"""``latency-service measurements``: what was measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from latency_service.cli import common
from latency_service.cli.common import DeviceFilter, Server, SpaceFilter, Token
from latency_service.core.credentials import DEFAULT_URL
from latency_service.core.terminal import completion
from latency_service.core.terminal.columns import Column, Interval
from latency_service.core.terminal.options import OUTPUT, shows
from latency_service.core.terminal.output import Output, Table

if TYPE_CHECKING:
    from latency_service.measurements.schemas import MeasurementView, Round, Summary

measurements = common.group("measurements", "What was measured, with its raw rounds.")

_COLUMNS: list[Column[MeasurementView]] = [
    Column("measurement", "id"),
    Column("ms [95 %]", lambda row: interval(row.summary), interval=True),
    Column("widths", "widths", wraps=12),
    Column("verdict", lambda row: row.summary.verdict, spare=True),
    Column("when", "created_at", spare=True),
    Column("rounds", lambda row: row.summary.rounds_used, spare=True),
    Column("counted", "counted", spare=True),
]

_ROUND_COLUMNS: list[Column[Round]] = [
    Column("at, s", "at_seconds"),
    Column("ms", "latency_ms"),
    Column("disturbed", "disturbed"),
    Column("canaries before, ms", "before_ms", wraps=20),
    Column("after, ms", "after_ms", wraps=20),
    Column("runs", "runs", spare=True),
    Column("contenders", "contenders", spare=True),
]


def interval(summary: Summary) -> Interval:
    """Latency and its 95 % interval, ms."""
    return Interval(summary.latency_ms, summary.lower_ms, summary.upper_ms)


@measurements.command("list")
@shows
def list_measurements(
    output: Output,
    space: SpaceFilter = None,
    device: DeviceFilter = None,
    campaign: Annotated[
        str | None,
        typer.Option(
            help="Show only those of this campaign.",
            autocompletion=completion.campaigns,
            rich_help_panel=common.FILTER,
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Maximum number of rows.", rich_help_panel=OUTPUT)
    ] = 100,
    offset: Annotated[
        int, typer.Option(min=0, help="Number of rows to skip.", rich_help_panel=OUTPUT)
    ] = 0,
    server: Server = DEFAULT_URL,
    token: Token = None,
) -> None:
    """Measurements, newest first."""
    with common.connect(server, token) as client:
        rows = client.measurements_page(
            space_id=space,
            device=device,
            campaign_id=campaign,
            limit=limit,
            offset=offset,
        )
    output.table(
        rows,
        _COLUMNS,
        "No measurement yet: make some with `latency-service campaigns create`.",
    )
    common.tell_of_more(output, len(rows), limit, offset)


@measurements.command("show")
@shows
def show_measurement(
    measurement: Annotated[
        str,
        typer.Argument(help="Id of the measurement.", autocompletion=completion.measurements),
    ],
    output: Output,
    server: Server = DEFAULT_URL,
    token: Token = None,
) -> None:
    """One measurement with every round and what the canaries read around it.

    CSV has the rounds.
    """
    with common.connect(server, token) as client:
        view = client.measurement(measurement)
    fields = {
        **common.fields_of(view, "id", "space_id", "target_id", "widths", "model_sha256"),
        "ms [95 %]": interval(view.summary),
        **view.summary.model_dump(),
    }
    rounds = Table(rows=view.rounds or [], columns=_ROUND_COLUMNS, empty="No rounds are kept.")
    output.record(view, fields, rounds)
