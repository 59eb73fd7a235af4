"""Pages of predictors: the list, and one with how far it can be trusted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import Query, Request
from sqlalchemy.orm import Session
from starlette.responses import Response

from latency_service.dashboard.figures import FigureJson
from latency_service.dashboard.pages import Pages, page
from latency_service.dashboard.paging import cut
from latency_service.dashboard.predictors import figures, tables
from latency_service.dashboard.predictors.views import (
    PredictorList,
    PredictorPage,
    PredictorRow,
    page_of,
    row_of,
)
from latency_service.dashboard.tables import PAGE_ROWS, Table
from latency_service.predictors import repository, service
from latency_service.predictors.repository import Chosen
from latency_service.spaces import repository as spaces_repository
from latency_service.web.deps import ReadSession

pages = Pages()


@pages.page("/predictors", name="predictors")
def predictor_list(
    request: Request,
    session: ReadSession,
    space: str | None = None,
    target: str | None = None,
    device: Annotated[str | None, Query(max_length=80)] = None,
    before: str | None = None,
) -> Response:
    """Predictors, newest first, of all spaces and targets or of one."""
    chosen = Chosen(space_id=space or None, target_id=target or None, device=device or None)
    rows, older = _rows(session, chosen, before or None)
    total = repository.count(session, chosen)
    table = tables.predictors_table(
        rows, total=total, older=older, every=lambda found: _every(found, chosen)
    )
    view = PredictorList(predictors=rows, total=total)
    filters = {"space": space, "target": target, "device": device, "before": before}
    return page(request, "predictors.html", view, tables=[table], filters=filters)


@pages.page("/predictors/{predictor_id}", name="predictor")
def predictor_page(request: Request, session: ReadSession, predictor_id: str) -> Response:
    """One predictor."""
    view = read(session, predictor_id, str(request.base_url))
    named = tables_of(view)
    return page(
        request,
        "predictor.html",
        view,
        tables=list(named.values()),
        named=named,
        figures=figures_of(view),
    )


def read(session: Session, predictor_id: str, base_url: str) -> PredictorPage:
    """Everything about one predictor.

    Raises:
        NotFound: there is none.
    """
    row = service.get(session, predictor_id)
    space = spaces_repository.space(session, row.space_id)
    assert space is not None, "spaces are never deleted"
    return page_of(row, space.name, base_url)


def tables_of(view: PredictorPage) -> dict[str, Table[Any]]:
    """The tables of one predictor by their names in the template."""
    return {
        "pairs": tables.pairs_table(view.pairs),
        "baselines": tables.baselines_table(view.baselines),
        "regions": tables.regions_table(view.regions),
        "calibration": tables.calibration_table(view.calibration),
        "learning": tables.learning_table(view.learning_curve),
        "domain": tables.domain_table(view.domain),
    }


def figures_of(view: PredictorPage) -> dict[str, FigureJson]:
    """The figures for which there are numbers."""
    found = {}
    if view.pairs:
        found["scatter"] = figures.predicted_against_measured(view.pairs)
        found["errors"] = figures.errors_by_latency(view.pairs)
    if len(view.learning_curve) > 1:
        found["learning"] = figures.learning_curve(view.learning_curve, view.summary.floor)
    if view.calibration:
        found["calibration"] = figures.calibration(view.calibration)
    return found


def _rows(
    session: Session, chosen: Chosen, before: str | None
) -> tuple[list[PredictorRow], str | None]:
    found = repository.page(session, chosen, before=before, limit=PAGE_ROWS + 1)
    shown, older = cut(found, PAGE_ROWS)
    names = spaces_repository.names(session, {row.space_id for row in shown})
    return [row_of(row, names[row.space_id]) for row in shown], older


def _every(session: Session, chosen: Chosen) -> Iterator[PredictorRow]:
    rows, older = _rows(session, chosen, None)
    yield from rows
    while older is not None:
        rows, older = _rows(session, chosen, older)
        yield from rows
