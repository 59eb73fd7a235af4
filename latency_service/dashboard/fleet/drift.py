"""Canaries over time: whether a device runs at the speed at which it was known."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from latency_service.dashboard import figures
from latency_service.dashboard.figures import FigureJson
from latency_service.dashboard.fleet import queries as fleet_queries
from latency_service.dashboard.palette import SOFT
from latency_service.dashboard.tables import Column, Table

#: Attempts whose calibrations are drawn.
DRAWN = 300
#: A canary within this share of its lowest calibration is at its floor.
QUIET_PERCENT = 3.0


class DriftPoint(BaseModel):
    """Calibration of the canaries before one attempt."""

    at: datetime
    runtime: str
    canary_percent: list[float] = Field(
        description="each canary above the lowest calibration of its target, per cent, fastest "
        "first"
    )

    @property
    def median_percent(self) -> float:
        return float(np.median(self.canary_percent))


class Drift(BaseModel):
    """Calibrations of one device, oldest first."""

    device: str
    points: list[DriftPoint]

    @property
    def worst_percent(self) -> float:
        return max((abs(point.median_percent) for point in self.points), default=0.0)


def read(session: Session, device_id: str, device: str, limit: int = DRAWN) -> Drift:
    """The newest calibrations of a device."""
    rows = fleet_queries.calibrations(session, device_id, limit)
    points = [_point(*row) for row in reversed(rows) if _fits(row[1], row[2])]
    return Drift(device=device, points=points)


def title_of(drifts: Sequence[Drift]) -> str:
    """What the figure shows, in one sentence."""
    known = [drift for drift in drifts if drift.points]
    if not known:
        return "No calibration of canaries yet"
    worst = max(known, key=lambda drift: drift.worst_percent)
    if worst.worst_percent <= QUIET_PERCENT:
        return f"Canaries stay within {worst.worst_percent:.1f} % of their floor"
    return f"Canaries of {worst.device} were up to {worst.worst_percent:.1f} % above their floor"


SUMMARY = (
    "Fixed networks measured before each attempt: how far above their lowest calibration they "
    "were, per cent. A steady device stays at zero; the line marks 3 %, up to which it counts "
    "as quiet."
)


def of_devices(drifts: Sequence[Drift]) -> FigureJson:
    """The median of each device's canaries over time."""
    traces = [
        _trace(drift.device, drift.points, [p.median_percent for p in drift.points], number)
        for number, drift in enumerate(drifts)
        if drift.points
    ]
    return _figure(traces)


def of_canaries(drift: Drift) -> FigureJson:
    """Each canary of one device over time."""
    count = max((len(point.canary_percent) for point in drift.points), default=0)
    traces = []
    for index in range(min(count, 6)):
        points = [point for point in drift.points if index < len(point.canary_percent)]
        values = [point.canary_percent[index] for point in points]
        traces.append(_trace(f"canary {index + 1}", points, values, index))
    return _figure(traces)


def table_of(drift: Drift) -> Table[DriftPoint]:
    """The numbers of the figure."""
    return Table(
        caption=f"Calibrations of {drift.device}, newest first",
        rows=list(reversed(drift.points)),
        columns=[
            Column(head="when", cell=lambda row: row.at, kind="time"),
            Column(head="runtime", cell=lambda row: row.runtime),
            Column(
                head="median above floor",
                unit="%",
                cell=lambda row: row.median_percent,
                kind="number",
                digits=2,
            ),
            Column(
                head="each canary above floor",
                unit="%",
                cell=lambda row: ", ".join(f"{value:.1f}" for value in row.canary_percent),
            ),
        ],
        empty="No calibration yet.",
    )


def _fits(calibration: dict[str, Any], lowest_ms: list[float]) -> bool:
    return len(calibration.get("floor_ms", ())) == len(lowest_ms) > 0


def _point(
    at: datetime, calibration: dict[str, Any], lowest_ms: list[float], runtime: str
) -> DriftPoint:
    pairs = zip(calibration["floor_ms"], lowest_ms, strict=True)
    percent = [100 * (now / lowest - 1) for now, lowest in pairs]
    return DriftPoint(at=at, runtime=runtime, canary_percent=percent)


def _trace(
    name: str, points: Sequence[DriftPoint], values: Sequence[float], series: int
) -> dict[str, Any]:
    return figures.measured(
        name,
        [point.at.isoformat() for point in points],
        [round(value, 3) for value in values],
        series=series,
        mode="lines+markers",
        hovertemplate="%{y:.2f} %<br>%{x}<extra>%{fullData.name}</extra>",
    )


def _figure(traces: list[dict[str, Any]]) -> FigureJson:
    line = {"color": SOFT, "width": 1, "dash": "dot"}
    quiet = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "line": line}
    return figures.figure(
        traces,
        height=320,
        xaxis=figures.axis("Time of the attempt", "UTC", type="date"),
        yaxis=figures.axis("Above the floor", "%", rangemode="tozero"),
        shapes=[{**quiet, "y0": QUIET_PERCENT, "y1": QUIET_PERCENT}],
    )
