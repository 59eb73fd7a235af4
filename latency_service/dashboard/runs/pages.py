"""Pages of pruning runs: the list, and one, live while it goes on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import Query, Request
from sqlalchemy.orm import Session
from starlette.responses import Response

from latency_service.core.thinning import thinned
from latency_service.dashboard.figures import FigureJson
from latency_service.dashboard.live import Parts, live
from latency_service.dashboard.pages import Pages, page
from latency_service.dashboard.paging import cut
from latency_service.dashboard.rendering import dashboard_of
from latency_service.dashboard.runs import figures, tables
from latency_service.dashboard.runs.views import (
    MOST_ENTRIES,
    RunList,
    RunPage,
    RunRow,
    Step,
    page_of,
    row_of,
    timeline,
)
from latency_service.dashboard.tables import PAGE_ROWS, Table
from latency_service.devices import repository as devices_repository
from latency_service.runs import repository, service
from latency_service.runs.repository import Chosen
from latency_service.spaces import repository as spaces_repository
from latency_service.web.deps import ReadSession

pages = Pages()


@pages.page("/runs", name="runs")
def run_list(
    request: Request,
    session: ReadSession,
    method: str | None = None,
    device: Annotated[str | None, Query(max_length=80)] = None,
    before: str | None = None,
) -> Response:
    """Pruning runs, newest first, of all methods and devices or of one."""
    chosen = Chosen(method=method or None, device=device or None)
    rows, older = _rows(session, chosen, before or None)
    total = repository.count(session, chosen)
    table = tables.runs_table(
        rows, total=total, older=older, every=lambda found: _every(found, chosen)
    )
    filters = {"method": method, "device": device, "before": before}
    return page(
        request,
        "runs.html",
        RunList(runs=rows, total=total),
        tables=[table],
        filters=filters,
        methods=repository.methods(session),
    )


@pages.page("/runs/{run_id}", name="run")
def run_page(request: Request, session: ReadSession, run_id: str) -> Response:
    """One run: training, widths, where the milliseconds went, every verification."""
    view = _view(session, run_id)
    named: dict[str, Table[Any]] = {
        "steps": tables.steps_table(
            thinned(view.steps, PAGE_ROWS), view.entries, lambda found: _steps(found, run_id)
        ),
        "verified": tables.verified_table(view.verified),
        "changes": tables.changes_table(view.changes),
        "layers": tables.layers_table(view.layers),
    }
    return page(
        request,
        "run.html",
        view,
        tables=list(named.values()),
        named=named,
        figures=figures_of(view),
    )


@live(pages, "/runs/{run_id}/live", name="run-live")
def run_parts(request: Request, session: Session) -> Parts:
    """What changes while a run goes on."""
    view = _view(session, request.path_params["run_id"])
    renderer = dashboard_of(request)
    context = {"view": view, "verified": tables.verified_table(view.verified)}
    return Parts(
        html={
            "run-head": renderer.part("run-head.html", context),
            "run-verified": renderer.part("run-verified.html", context),
        },
        figures=figures_of(view),
        is_final=view.summary.state != "running",
    )


def figures_of(view: RunPage) -> dict[str, FigureJson]:
    """The figures for which there are numbers; while a run goes on all that will fill."""
    goes_on = view.summary.state == "running"
    found = {}
    if view.steps or goes_on:
        found["trajectory"] = figures.trajectory(view)
    if any(step.widths for step in view.steps) or goes_on:
        found["widths-over-time"] = figures.widths_over_time(view)
    if view.verified or goes_on:
        found["verifications"] = figures.verifications(view.verified, view.summary.budget_ms)
    if view.changes:
        found["widths"] = figures.widths(view.changes)
    if view.layers:
        found["layers"] = figures.layers(view.layers)
    return found


def _view(session: Session, run_id: str) -> RunPage:
    run = service.whole(session, run_id)
    space = spaces_repository.space(session, run.space_id)
    assert space is not None, "spaces are never deleted"
    return page_of(
        run,
        (space.name, space.groups),
        service.history_of(session, run, MOST_ENTRIES),
        service.verifications_of(run),
        devices_repository.now(session),
    )


def _steps(session: Session, run_id: str) -> list[Step]:
    """Every step of a run, for the CSV."""
    history, _ = service.history_of(session, service.whole(session, run_id), sys.maxsize)
    return timeline(history)[0]


def _rows(session: Session, chosen: Chosen, before: str | None) -> tuple[list[RunRow], str | None]:
    found = repository.page(session, chosen, before=before, limit=PAGE_ROWS + 1)
    shown, older = cut(found, PAGE_ROWS)
    return [row_of(run) for run in shown], older


def _every(session: Session, chosen: Chosen) -> Iterator[RunRow]:
    rows, older = _rows(session, chosen, None)
    yield from rows
    while older is not None:
        rows, older = _rows(session, chosen, older)
        yield from rows
