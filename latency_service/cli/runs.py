"""``latency-service runs``: pruning runs, recorded beside the measurements that prove them."""

from __future__ import annotations

from latency_service.cli import common
from latency_service.cli.common import Json, Server, Token
from latency_service.core.credentials import DEFAULT_URL
from latency_service.runs.schemas import RunView

runs = common.group("runs", "Pruning runs, recorded beside the measurements that prove them.")

_COLUMNS: list[common.Column[RunView]] = [
    ("run", "id"),
    ("name", "name"),
    ("method", "method"),
    ("budget, ms", "budget_ms"),
    ("state", "state"),
    ("outcome", lambda row: row.summary and row.summary.outcome),
    ("space", lambda row: row.space_id[:12]),
    ("created", "created_at"),
]


@runs.command("list")
def list_runs(server: Server = DEFAULT_URL, token: Token = None, as_json: Json = False) -> None:
    """Pruning runs, newest first."""
    with common.connect(server, token) as client:
        rows = client.runs()
    if as_json:
        return common.print_json(rows)
    return common.print_table(
        rows,
        _COLUMNS,
        "No run yet: `pruning-client prune` records its runs here.",
    )


@runs.command("show")
def show_run(
    run: str, server: Server = DEFAULT_URL, token: Token = None, as_json: Json = False
) -> None:
    """One run; with --json its whole report."""
    with common.connect(server, token) as client:
        view = client.run(run)
    if as_json:
        return common.print_json(view)
    common.print_fields(view.model_dump(exclude={"report", "summary"}))
    report = view.report or {}
    plain = {name: value for name, value in report.items() if not isinstance(value, list | dict)}
    return common.print_fields(plain)
