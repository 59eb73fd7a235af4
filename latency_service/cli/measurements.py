"""``latency-service measurements``: what was measured."""

from __future__ import annotations

from typing import Annotated

import typer

from latency_service.cli import common
from latency_service.cli.common import DeviceFilter, Json, Server, SpaceFilter, Token
from latency_service.core.credentials import DEFAULT_URL
from latency_service.measurements.schemas import MeasurementView, Round

measurements = common.group("measurements", "What was measured, with its raw rounds.")

_COLUMNS: list[common.Column[MeasurementView]] = [
    ("measurement", "id"),
    ("ms [95 %]", lambda row: interval(row)),
    ("verdict", lambda row: row.summary.verdict),
    ("rounds", lambda row: row.summary.rounds_used),
    ("widths", "widths"),
    ("counted", "counted"),
    ("when", "created_at"),
]

_ROUND_COLUMNS: list[common.Column[Round]] = [
    ("at, s", "at_seconds"),
    ("ms", "latency_ms"),
    ("runs", "runs"),
    ("canaries before, ms", "before_ms"),
    ("after, ms", "after_ms"),
    ("contenders", "contenders"),
    ("disturbed", "disturbed"),
]


def interval(row: MeasurementView) -> str:
    """Latency and its 95 % interval, ms."""
    summary = row.summary
    return f"{summary.latency_ms:.4g} [{summary.lower_ms:.4g}, {summary.upper_ms:.4g}]"


@measurements.command("list")
def list_measurements(
    space: SpaceFilter = None,
    device: DeviceFilter = None,
    campaign: Annotated[
        str | None,
        typer.Option(help="Show only those of this campaign.", rich_help_panel=common.FILTER),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=1, help="Maximum number of rows.", rich_help_panel=common.OUTPUT)
    ] = 100,
    offset: Annotated[
        int, typer.Option(min=0, help="Number of rows to skip.", rich_help_panel=common.OUTPUT)
    ] = 0,
    server: Server = DEFAULT_URL,
    token: Token = None,
    as_json: Json = False,
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
    if as_json:
        return common.print_json(rows)
    return common.print_table(
        rows,
        _COLUMNS,
        "No measurement yet: make some with `latency-service campaigns create`.",
    )


@measurements.command("show")
def show_measurement(
    measurement: str, server: Server = DEFAULT_URL, token: Token = None, as_json: Json = False
) -> None:
    """One measurement with every round and what the canaries read around it."""
    with common.connect(server, token) as client:
        view = client.measurement(measurement)
    if as_json:
        return common.print_json(view)
    common.print_fields(
        common.fields_of(view, "id", "space_id", "target_id", "widths", "model_sha256")
    )
    common.print_fields({"ms [95 %]": interval(view), **view.summary.model_dump()})
    return common.print_table(
        view.rounds or [],
        _ROUND_COLUMNS,
        "No rounds are kept.",
    )
