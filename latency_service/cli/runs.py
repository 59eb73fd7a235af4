"""``latency-service runs``: pruning runs, recorded beside the measurements that prove them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from latency_service.cli import common
from latency_service.cli.common import Server, Token
from latency_service.core.credentials import DEFAULT_URL
from latency_service.core.terminal import completion
from latency_service.core.terminal.columns import Column
from latency_service.core.terminal.options import shows
from latency_service.core.terminal.output import Output

if TYPE_CHECKING:
    from latency_service.runs.schemas import RunView

runs = common.group("runs", "Pruning runs, recorded beside the measurements that prove them.")

_COLUMNS: list[Column[RunView]] = [
    Column("run", "id"),
    Column("name", "name"),
    Column("method", "method"),
    Column("budget, ms", "budget_ms"),
    Column("state", "state"),
    Column("outcome", lambda row: row.summary and row.summary.outcome),
    Column("created", "created_at", spare=True),
    Column("space", "space_id", length=12, spare=True),
]


@runs.command("list")
@shows
def list_runs(output: Output, server: Server = DEFAULT_URL, token: Token = None) -> None:
    """Pruning runs, newest first."""
    with common.connect(server, token) as client:
        rows = client.runs()
    output.table(rows, _COLUMNS, "No run yet: `pruning-client prune` records its runs here.")


@runs.command("show")
@shows
def show_run(
    run: Annotated[str, typer.Argument(help="Id of the run.", autocompletion=completion.runs)],
    output: Output,
    server: Server = DEFAULT_URL,
    token: Token = None,
) -> None:
    """One run; with --json its whole report."""
    with common.connect(server, token) as client:
        view = client.run(run)
    report = view.report or {}
    figures = {name: value for name, value in report.items() if not isinstance(value, list | dict)}
    output.record(view, {**view.model_dump(exclude={"report", "summary"}), **figures})
