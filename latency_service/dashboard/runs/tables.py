"""Tables of pruning runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from sqlalchemy.orm import Session

from latency_service.dashboard import columns
from latency_service.dashboard.columns import Latency
from latency_service.dashboard.runs.views import GroupChange, LayerTime, RunRow, Step, Verified
from latency_service.dashboard.tables import MOST_GROUPS, Column, Table, Target

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
                head="run",
                cell=lambda row: row.name,
                link=lambda row: ("run", {"run_id": row.id}),
            ),
            Column(head="id", cell=lambda row: row.id),
            Column(head="state", cell=lambda row: row.state, kind="state"),
            Column(head="method", cell=lambda row: row.method, kind="code"),
            Column(head="measured on", cell=lambda row: row.device),
            Column(
                head="budget", unit="ms", cell=lambda row: row.budget_ms, kind="number", digits=4
            ),
            columns.latency(_latency, meaning="measured latency of the delivered file"),
            Column(head="dense", unit="ms", cell=lambda row: row.dense_ms, kind="number", digits=4),
            Column(head="accuracy", unit="%", cell=lambda row: row.accuracy, kind="number"),
            Column(
                head="dense accuracy", unit="%", cell=lambda row: row.dense_accuracy, kind="number"
            ),
            Column(head="begun", cell=lambda row: row.created_at, kind="time"),
            Column(head="last heard of", cell=lambda row: row.updated_at, kind="time"),
        ],
        rows=rows,
        empty="No run yet. The pruning client records its runs here while they go on.",
        command=COMMAND,
        total=total,
        older=older,
        every=every,
    )


def _latency(row: RunRow) -> Latency | None:
    return None if row.latency_ms is None else (row.latency_ms, row.lower_ms, row.upper_ms)


def steps_table(
    rows: Sequence[Step], total: int, every: Callable[[Session], Iterable[Step]]
) -> Table[Step]:
    return Table(
        caption="Training, in steps of the whole run",
        total=total,
        every=every,
        columns=[
            Column(head="step", cell=lambda row: row.at, kind="count"),
            Column(head="phase", cell=lambda row: row.phase),
            Column(head="loss", cell=lambda row: row.loss, kind="number", digits=4),
            Column(
                head="predicted",
                unit="ms",
                cell=lambda row: row.latency_ms,
                kind="number",
                digits=4,
            ),
            Column(head="accuracy", unit="%", cell=lambda row: row.accuracy, kind="number"),
            Column(
                head="widths",
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
            Column(head="no.", cell=lambda row: row.number, kind="count"),
            Column(head="file", cell=lambda row: row.stage),
            Column(head="verdict", cell=lambda row: row.verdict, kind="state"),
            columns.latency(
                lambda row: (row.latency_ms, row.lower_ms, row.upper_ms), link=_measurement
            ),
            Column(
                head="of the budget",
                unit="%",
                cell=lambda row: row.of_budget_percent,
                kind="number",
                digits=4,
            ),
            Column(
                head="predicted",
                unit="ms",
                cell=lambda row: row.predicted_ms,
                kind="number",
                digits=4,
            ),
            Column(
                head="error of the prediction",
                unit="%",
                cell=lambda row: row.error_percent,
                kind="number",
                digits=2,
            ),
            Column(head="measured on", cell=lambda row: row.device),
            Column(head="widths", cell=lambda row: " ".join(str(width) for width in row.widths)),
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
        most=MOST_GROUPS,
        columns=[
            Column(head="width group", cell=lambda row: row.name),
            Column(head="before", cell=lambda row: row.before, kind="count"),
            Column(head="after", cell=lambda row: row.after, kind="count"),
            Column(head="kept", unit="%", cell=lambda row: row.kept_percent, kind="number"),
        ],
        rows=rows,
        empty="The widths are decided in the course of the run.",
    )


def layers_table(rows: Sequence[LayerTime]) -> Table[LayerTime]:
    return Table(
        caption="Latency of each layer: shares of a profile, scaled to the measured latency",
        most=MOST_GROUPS,
        columns=[
            Column(head="layer", cell=lambda row: row.name),
            Column(head="before", unit="ms", cell=lambda row: row.before_ms, kind="number"),
            Column(head="after", unit="ms", cell=lambda row: row.after_ms, kind="number"),
            Column(head="saved", unit="ms", cell=lambda row: row.saved_ms, kind="number"),
        ],
        rows=rows,
        empty="The layers were not profiled.",
    )
