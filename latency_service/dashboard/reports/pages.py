"""Reports: a predictor, a campaign or a target as one file that opens without the service."""

from __future__ import annotations

from typing import Any

from fastapi import Request
from starlette.responses import Response

from latency_service.dashboard.campaigns import pages as campaign_pages
from latency_service.dashboard.fleet import drift as canary_drift
from latency_service.dashboard.pages import Pages, attachment
from latency_service.dashboard.predictors import pages as predictor_pages
from latency_service.dashboard.predictors import tables as predictor_tables
from latency_service.dashboard.rendering import dashboard_of
from latency_service.dashboard.reports.views import ReportView, read
from latency_service.dashboard.targets import figures as target_figures
from latency_service.dashboard.targets import pages as target_pages
from latency_service.web.deps import ReadSession

pages = Pages()


@pages.file("/reports/{subject_id}", name="report")
def report(request: Request, session: ReadSession, subject_id: str) -> Response:
    """The report of a predictor, a campaign or a target, to be saved: a browser never opens it
    as a page of the service.
    """
    view = read(session, subject_id, str(request.base_url))
    page = dashboard_of(request).file("report.html", context_of(view))
    headers = attachment(f"{view.subject}-{subject_id[:12]}.html")
    return Response(page, media_type="application/octet-stream", headers=headers)


def context_of(view: ReportView) -> dict[str, Any]:
    """What the template shows: the tables and figures of the pages of each part."""
    context: dict[str, Any] = {"report": view}
    if view.campaign is not None:
        context["campaign_tables"] = campaign_pages.tables_of(view.campaign)
    if view.predictor is not None:
        context["predictor_tables"] = predictor_pages.tables_of(view.predictor)
        context["predictor_figures"] = predictor_pages.figures_of(view.predictor)
    if view.target is not None:
        context["sawtooth"] = target_figures.sawtooth
        context["sweep_table"] = target_pages.sweep_table
        context["predictors"] = predictor_tables.predictors_table(
            view.target.predictors, total=view.target.predictor_count, older=None, every=None
        )
    if view.drift is not None:
        context["drift_title"] = canary_drift.title_of([view.drift])
        context["drift_summary"] = canary_drift.SUMMARY
        context["drift_figure"] = canary_drift.of_canaries(view.drift)
        context["drift_table"] = canary_drift.table_of(view.drift)
    return context
