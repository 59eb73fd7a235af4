"""Tables of pruning runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from sqlalchemy.orm import Session

from latency_service.dashboard.runs.views import GroupChange, LayerTime, RunRow, Step, Verified
from latency_service.dashboard.tables import Column, Table, Target

COMMAND = "pruning-client prune --model MODEL --data DATA --budget 60%"


def runs_table(
    rows: Sequence[RunRow],
    *,
    total: int,
    older: str | None,
    every: Callable[[Session], Iterable[RunRow]] | None,
) -> Table[RunRow]:
    return Table(
        caption="Pruning runs, newest first",
        columns=[
            Column(
                head="Run",
                cell=lambda row: row.name,
                link=lambda row: ("run", {"run_id": row.id}),
            ),
            Column(head="Id", cell=lambda row: row.id),
            Column(head="State", cell=lambda row: row.state, kind="state"),
            Column(head="Method", cell=lambda row: row.method, kind="code"),
            Column(head="Measured on", cell=lambda row: row.device),
            Column(
                head="Budget", unit="ms", cell=lambda row: row.budget_ms, kind="number", digits=4
            ),
            Column(
                head="Median [95 % interval]",
                unit="ms",
                cell=lambda row: (
                    None if row.latency_ms is None else (row.latency_ms, row.lower_ms, row.upper_ms)
                ),
                kind="interval",
                meaning="Measured latency of the delivered file",
            ),
            Column(head="Dense", unit="ms", cell=lambda row: row.dense_ms, kind="number", digits=4),
            Column(head="Accuracy", unit="%", cell=lambda row: row.accuracy, kind="number"),
            Column(
                head="Dense accuracy", unit="%", cell=lambda row: row.dense_accuracy, kind="number"
            ),
            Column(head="Begun", cell=lambda row: row.created_at, kind="time"),
            Column(head="Last heard of", cell=lambda row: row.updated_at, kind="time"),
        ],
        rows=rows,
        empty="No run yet. The pruning client records its runs here while they go on.",
        command=COMMAND,
        total=total,
        older=older,
        every=every,
    )


def steps_table(rows: Sequence[Step]) -> Table[Step]:
    return Table(
        caption="Training, in steps of the whole run",
        columns=[
            Column(head="Step", cell=lambda row: row.at, kind="count"),
            Column(head="Phase", cell=lambda row: row.phase),
            Column(head="Loss", cell=lambda row: row.loss, kind="number", digits=4),
            Column(
                head="Predicted",
                unit="ms",
                cell=lambda row: row.latency_ms,
                kind="number",
                digits=4,
            ),
            Column(head="Accuracy", unit="%", cell=lambda row: row.accuracy, kind="number"),
            Column(
                head="Widths",
                cell=lambda row: " ".join(f"{width:g}" for width in row.widths or []) or None,
            ),
        ],
        rows=rows,
        empty="Nothing was trained yet.",
    )


def verified_table(rows: Sequence[Verified]) -> Table[Verified]:
    return Table(
        caption="Measurements of whole files, in their order",
        columns=[
            Column(head="No.", cell=lambda row: row.number, kind="count"),
            Column(head="File", cell=lambda row: row.stage),
            Column(head="Verdict", cell=lambda row: row.verdict, kind="state"),
            Column(
                head="Median [95 % interval]",
                unit="ms",
                cell=lambda row: (row.latency_ms, row.lower_ms, row.upper_ms),
                kind="interval",
                link=_measurement,
            ),
            Column(
                head="Of the budget",
                unit="%",
                cell=lambda row: row.of_budget_percent,
                kind="number",
                digits=4,
            ),
            Column(
                head="Predicted",
                unit="ms",
                cell=lambda row: row.predicted_ms,
                kind="number",
                digits=4,
            ),
            Column(
                head="Error of the prediction",
                unit="%",
                cell=lambda row: row.error_percent,
                kind="number",
                digits=2,
            ),
            Column(head="Measured on", cell=lambda row: row.device),
            Column(head="Widths", cell=lambda row: " ".join(str(width) for width in row.widths)),
        ],
        rows=rows,
        empty="No file was measured yet.",
    )


def _measurement(row: Verified) -> Target | None:
    """Page of a verification's rounds."""
    return ("measurement", {"measurement_id": row.measurement_id})


def changes_table(rows: Sequence[GroupChange]) -> Table[GroupChange]:
    return Table(
        caption="Channels of each width group",
        columns=[
            Column(head="Width group", cell=lambda row: row.name),
            Column(head="Before", cell=lambda row: row.before, kind="count"),
            Column(head="After", cell=lambda row: row.after, kind="count"),
            Column(head="Kept", unit="%", cell=lambda row: row.kept_percent, kind="number"),
        ],
        rows=rows,
        empty="The widths are decided in the course of the run.",
    )


def layers_table(rows: Sequence[LayerTime]) -> Table[LayerTime]:
    return Table(
        caption="Latency of each layer: shares of a profile, scaled to the measured latency",
        columns=[
            Column(head="Layer", cell=lambda row: row.name),
            Column(head="Before", unit="ms", cell=lambda row: row.before_ms, kind="number"),
            Column(head="After", unit="ms", cell=lambda row: row.after_ms, kind="number"),
            Column(head="Saved", unit="ms", cell=lambda row: row.saved_ms, kind="number"),
        ],
        rows=rows,
        empty="The layers were not profiled.",
    )
