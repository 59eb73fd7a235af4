"""Pages of measurements."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Literal

from fastapi import Query, Request
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session
from starlette.responses import Response

from latency_service.dashboard import columns
from latency_service.dashboard.formatting import short_runtime
from latency_service.dashboard.measurements import figures as measurement_figures
from latency_service.dashboard.measurements import queries as measurement_queries
from latency_service.dashboard.measurements import views as measurement_views
from latency_service.dashboard.measurements.queries import Filter
from latency_service.dashboard.pages import Pages, page
from latency_service.dashboard.paging import newest_page, whole
from latency_service.dashboard.rows import AnyRow
from latency_service.dashboard.tables import Column, Table
from latency_service.measurements.models import Measurement
from latency_service.web.deps import ReadSession

pages = Pages()
Key = Annotated[str | None, Query(max_length=64)]


class MeasurementRow(BaseModel):
    """A measurement in a list. Latencies in ms, the interval at 95 %."""

    id: str
    space: str
    device: str
    runtime: str
    latency_ms: float
    lower_ms: float
    upper_ms: float
    verdict: str
    rounds_used: int
    quarantined_share: float
    widths: list[int] | None
    model_sha256: str | None
    created_at: datetime


class MeasurementsView(BaseModel):
    """Measurements, newest first."""

    total: int
    older: str | None = Field(description="`before` of the next page")
    device: str | None
    campaign: str | None
    space: str | None
    verdict: str | None
    measurements: list[MeasurementRow]


@pages.page("/measurements", name="measurements")
def measurements(
    request: Request,
    session: ReadSession,
    device: Annotated[str | None, Query(max_length=80)] = None,
    campaign: Key = None,
    space: Key = None,
    verdict: Literal["ok", "unstable", ""] | None = None,
    before: Key = None,
) -> Response:
    """Measurements, newest first."""
    chosen = Filter(device or None, campaign or None, space or None, verdict or None)
    view = _view(session, chosen, before)
    return page(request, "measurements.html", view, tables=[_table(view, chosen)])


@pages.page("/measurements/{measurement_id}", name="measurement")
def measurement(request: Request, measurement_id: str, session: ReadSession) -> Response:
    """One measurement."""
    view = measurement_views.read(session, measurement_id)
    drawn = measurement_figures
    return page(
        request,
        "measurement.html",
        view,
        tables=[drawn.round_table(view.rounds)],
        strip={
            "figure": drawn.rounds_figure(view),
            "title": drawn.rounds_title(view),
            "summary": drawn.ROUNDS_SUMMARY,
        },
        canaries={
            "figure": drawn.canaries_figure(view),
            "title": drawn.canaries_title(view),
            "summary": drawn.CANARIES_SUMMARY,
        },
    )


def _view(session: Session, chosen: Filter, before: str | None) -> MeasurementsView:
    found = newest_page(session, measurement_queries.listed(chosen), Measurement.id, before)
    return MeasurementsView(
        total=measurement_queries.count_of(session, chosen),
        older=found.older,
        device=chosen.device,
        campaign=chosen.campaign_id,
        space=chosen.space_id,
        verdict=chosen.verdict,
        measurements=[_row(row) for row in found.rows],
    )


def _row(row: AnyRow) -> MeasurementRow:
    names = tuple(MeasurementRow.model_fields)
    return MeasurementRow.model_validate(dict(zip(names, row, strict=False)))


def _table(view: MeasurementsView, chosen: Filter) -> Table[MeasurementRow]:
    def every(session: Session) -> Iterable[MeasurementRow]:
        rows = whole(session, measurement_queries.listed(chosen), Measurement.id)
        return (_row(row) for row in rows)

    return Table(
        caption="Measurements, newest first",
        rows=view.measurements,
        total=view.total,
        older=view.older,
        columns=_COLUMNS,
        empty="No measurement yet. A campaign makes them:",
        command="latency-service campaigns create --space SPACE --device local",
        every=every,
    )


_COLUMNS: list[Column[MeasurementRow]] = [
    Column(
        head="measurement",
        cell=lambda row: row.id,
        kind="code",
        link=lambda row: ("measurement", {"measurement_id": row.id}),
    ),
    Column(head="space", cell=lambda row: row.space),
    columns.device(lambda row: row.device),
    Column(head="runtime", cell=lambda row: short_runtime(row.runtime)),
    columns.latency(lambda row: (row.latency_ms, row.lower_ms, row.upper_ms)),
    Column(head="n", cell=lambda row: row.rounds_used, kind="count", meaning="rounds used"),
    Column(head="verdict", cell=lambda row: row.verdict, kind="state"),
    Column(
        head="quarantined",
        unit="%",
        cell=lambda row: 100 * row.quarantined_share,
        kind="number",
        digits=2,
        meaning="share of rounds with evidence against them",
    ),
    Column(
        head="what",
        cell=lambda row: "file" if row.model_sha256 else " ".join(map(str, row.widths or ())),
        kind="code",
        meaning="widths of the architecture",
    ),
    Column(head="when", cell=lambda row: row.created_at, kind="time"),
]
