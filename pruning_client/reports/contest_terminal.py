"""The table of a contest in a terminal."""

from __future__ import annotations

from rich.console import Console

from pruning_client.reports.contest_schema import Contest, Standing
from pruning_client.reports.terminal import headed_table, make_console

_NAMES = ("budget", "method")
_HEADINGS = (
    *_NAMES,
    "accuracy, %",
    "measured, ms",
    "interval, ms",
    "same",
    "met",
    "time, s",
    "epochs",
    "",
)


def print_contest(contest: Contest, console: Console | None = None) -> None:
    """Print the methods of every budget, the most accurate first, and the reasons of failures."""
    shown = console or make_console()
    table = headed_table(_HEADINGS, left=_NAMES)
    for row in contest.standings:
        table.add_row(*_cells(row, len(contest.seeds)))
    shown.print(table)
    for row in contest.standings:
        for failure in row.failures:
            shown.print(
                f"{row.method} at {row.budget}: {failure}",
                style="red",
                markup=False,
                highlight=False,
            )


def _cells(row: Standing, seeds: int) -> tuple[str, ...]:
    epochs = f"{row.own_epochs} + {row.finetune_epochs}"
    if row.accuracy is None:
        return (row.budget, row.method, "failed", "", "", "", f"0 of {seeds}", "", epochs, "")
    return (
        row.budget,
        row.method,
        _accuracy(row),
        f"{row.latency_ms:.3f}",
        f"{row.lower_ms:.3f}-{row.upper_ms:.3f}",
        "yes" if row.is_equal else "no",
        f"{row.met} of {seeds}",
        f"{row.seconds:.0f}",
        epochs,
        "best" if row.is_best else "",
    )


def _accuracy(row: Standing) -> str:
    spread = "" if row.accuracy_deviation is None else f" ± {row.accuracy_deviation:.2f}"
    return f"{row.accuracy:.2f}{spread}"
