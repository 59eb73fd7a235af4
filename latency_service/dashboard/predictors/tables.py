"""Tables of predictors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from sqlalchemy.orm import Session

from latency_service.dashboard.predictors.views import (
    Baseline,
    CalibrationRow,
    GroupDomain,
    Pair,
    PredictorRow,
    Region,
)
from latency_service.dashboard.tables import MOST_GROUPS, Column, Table
from latency_service.predictors.schemas import LearningPoint

COLUMNS: tuple[Column[PredictorRow], ...] = (
    Column(
        head="predictor",
        cell=lambda row: row.id,
        kind="code",
        link=lambda row: ("predictor", {"predictor_id": row.id}),
    ),
    Column(head="state", cell=lambda row: row.state, kind="state"),
    Column(
        head="search space",
        cell=lambda row: row.space,
        link=lambda row: ("space", {"space_id": row.space_id}),
    ),
    Column(
        head="measured on",
        cell=lambda row: row.place.text,
        link=lambda row: ("target", {"target_id": row.place.target_id}),
    ),
    Column(head="version", cell=lambda row: row.version, kind="count"),
    Column(head="model", cell=lambda row: row.model, kind="code"),
    Column(
        head="architectures",
        cell=lambda row: row.measurements,
        kind="count",
        meaning="Number of different architectures that it was trained on",
    ),
    Column(
        head="error",
        unit="%",
        cell=lambda row: row.mape,
        kind="number",
        meaning="Mean absolute percentage error on held-out architectures",
    ),
    Column(
        head="floor",
        unit="%",
        cell=lambda row: row.floor,
        kind="number",
        meaning="Median difference between two measurements of one architecture",
    ),
    Column(
        head="inside interval",
        unit="%",
        cell=lambda row: row.coverage,
        kind="number",
        meaning="Held-out measurements inside the prediction interval of 90 %",
    ),
    Column(head="made", cell=lambda row: row.created_at, kind="time"),
)


def predictors_table(
    rows: Sequence[PredictorRow],
    *,
    total: int,
    older: str | None,
    every: Callable[[Session], Iterable[PredictorRow]] | None,
) -> Table[PredictorRow]:
    return Table(
        caption="Predictors, newest first",
        columns=COLUMNS,
        rows=rows,
        empty="There is no predictor here yet. A campaign measures architectures and trains one.",
        command="latency-service campaigns create --space SPACE --device DEVICE",
        total=total,
        older=older,
        every=every,
    )


def pairs_table(pairs: Sequence[Pair]) -> Table[Pair]:
    return Table(
        caption="Held-out architectures, fastest first",
        columns=[
            Column(
                head="measured", unit="ms", cell=lambda p: p.measured_ms, kind="number", digits=4
            ),
            Column(
                head="predicted", unit="ms", cell=lambda p: p.predicted_ms, kind="number", digits=4
            ),
            Column(head="error", unit="%", cell=lambda p: round(p.error_percent, 2), kind="number"),
            Column(head="widths", cell=lambda p: " ".join(f"{width:g}" for width in p.widths)),
        ],
        rows=pairs,
        empty="Its held-out predictions were not kept. The next training keeps them.",
    )


def baselines_table(rows: Sequence[Baseline]) -> Table[Baseline]:
    return Table(
        caption="Models fitted on the same folds, lowest error first",
        columns=[
            Column(head="model", cell=lambda row: row.name, kind="code"),
            Column(head="role", cell=lambda row: "served" if row.served else "baseline"),
            Column(
                head="error",
                unit="%",
                cell=lambda row: row.mape,
                kind="number",
                meaning="Mean absolute percentage error on held-out architectures",
            ),
            Column(head="90th percentile", unit="%", cell=lambda row: row.p90, kind="number"),
            Column(head="within 5 %", unit="%", cell=lambda row: row.within_5, kind="number"),
            Column(head="within 10 %", unit="%", cell=lambda row: row.within_10, kind="number"),
            Column(
                head="rank correlation",
                cell=lambda row: row.spearman,
                kind="number",
                meaning="Spearman's, between predicted and measured",
            ),
            Column(
                head="times the served error",
                cell=lambda row: row.ratio,
                kind="number",
            ),
        ],
        rows=rows,
        empty="No other model was fitted.",
    )


def regions_table(rows: Sequence[Region]) -> Table[Region]:
    return Table(
        caption="Held-out errors from fast to slow architectures",
        columns=[
            Column(head="from", unit="ms", cell=lambda row: row.low_ms, kind="number"),
            Column(head="to", unit="ms", cell=lambda row: row.high_ms, kind="number"),
            Column(head="n", cell=lambda row: row.n, kind="count"),
            Column(
                head="bias",
                unit="%",
                cell=lambda row: row.bias,
                kind="number",
                digits=2,
                meaning="Median signed error: positive where predictions are too slow",
            ),
            Column(head="error", unit="%", cell=lambda row: row.mape, kind="number"),
            Column(
                head="90th percentile",
                unit="%",
                cell=lambda row: row.p90,
                kind="number",
                meaning="Not of fewer than 20 architectures",
            ),
        ],
        rows=rows,
        empty="Its held-out predictions were not kept. The next training keeps them.",
    )


def calibration_table(rows: Sequence[CalibrationRow]) -> Table[CalibrationRow]:
    return Table(
        caption="Prediction intervals: promised beside observed",
        columns=[
            Column(head="promised", unit="%", cell=lambda row: row.nominal, kind="number"),
            Column(
                head="observed, with 95 % interval",
                unit="%",
                cell=lambda row: (row.empirical.value, row.empirical.lower, row.empirical.upper),
                kind="interval",
            ),
            Column(head="n", cell=lambda row: row.n, kind="count"),
            Column(
                head="verdict",
                cell=lambda row: (
                    "holds"
                    if row.holds
                    else "too narrow"
                    if row.empirical.value < row.nominal
                    else "too wide"
                ),
            ),
        ],
        rows=rows,
        empty="Only the served level is known of this version. The next training tries several.",
    )


def learning_table(rows: Sequence[LearningPoint]) -> Table[LearningPoint]:
    return Table(
        caption="Error by the number of architectures trained on",
        columns=[
            Column(head="architectures", cell=lambda row: row.measurements, kind="count"),
            Column(head="error", unit="%", cell=lambda row: row.mape, kind="number"),
        ],
        rows=rows,
        empty="The learning curve was not computed.",
    )


def _plain(width: float | None) -> str | None:
    return None if width is None else f"{width:g}"


def domain_table(rows: Sequence[GroupDomain]) -> Table[GroupDomain]:
    return Table(
        caption="Domain: widths of each group, in channels",
        most=MOST_GROUPS,
        columns=[
            Column(head="width group", cell=lambda row: row.group),
            Column(head="minimum", cell=lambda row: row.minimum, kind="count"),
            Column(head="full", cell=lambda row: row.full, kind="count"),
            Column(head="trained from", cell=lambda row: _plain(row.trained_low)),
            Column(head="trained to", cell=lambda row: _plain(row.trained_high)),
            Column(
                head="lattice",
                cell=lambda row: row.lattice,
                meaning="Widths worth using: no wider one is faster",
            ),
            Column(head="on the lattice", cell=lambda row: row.lattice_count, kind="count"),
        ],
        rows=rows,
        empty="The search space has no width group.",
    )
