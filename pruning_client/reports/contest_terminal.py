"""The table of a contest in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from latency_service.core.terminal.columns import Column, Interval
from latency_service.core.terminal.output import Table, print_table
from pruning_client.reports.terminal import make_console

if TYPE_CHECKING:
    from rich.console import Console

    from pruning_client.reports.contest_schema import Contest, Standing


def columns(contest: Contest) -> list[Column[Standing]]:
    """Columns of the methods of every budget."""
    seeds = len(contest.seeds)
    return [
        Column("budget", "budget"),
        Column("method", "method"),
        Column("accuracy, %", _accuracy),
        Column("measured, ms", _latency, interval=True),
        Column("met", lambda row: f"{row.met} of {seeds}"),
        Column("best", "is_best"),
        Column("same", "is_equal", spare=True),
        Column("time, s", "seconds", spare=True, form=".0f"),
        Column("epochs", lambda row: f"{row.own_epochs} + {row.finetune_epochs}", spare=True),
    ]


def print_contest(contest: Contest, console: Console | None = None) -> None:
    """Print the methods of every budget, the most accurate first, and the reasons of failures."""
    table = Table(rows=contest.standings, columns=columns(contest), empty="No method was compared.")
    print_table(table, console)
    shown = console or make_console()
    for row in contest.standings:
        for failure in row.failures:
            shown.print(
                f"{row.method} at {row.budget}: {failure}",
                style="red",
                markup=False,
                highlight=False,
            )


def _latency(row: Standing) -> Interval | None:
    if row.latency_ms is None or row.lower_ms is None or row.upper_ms is None:
        return None
    return Interval(row.latency_ms, row.lower_ms, row.upper_ms)


def _accuracy(row: Standing) -> str:
    if row.accuracy is None:
        return "failed"
    spread = "" if row.accuracy_deviation is None else f" ± {row.accuracy_deviation:.2f}"
    return f"{row.accuracy:.2f}{spread}"
