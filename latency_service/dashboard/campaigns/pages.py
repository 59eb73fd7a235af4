"""Pages of campaigns: the list, one campaign while it runs, starting and cancelling."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Query, Request
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response

from latency_service.auth.audit import Audit, AuditTrail
from latency_service.campaigns import service as campaigns_service
from latency_service.campaigns.models import Campaign
from latency_service.campaigns.schemas import RoundView
from latency_service.core.errors import ServiceError
from latency_service.dashboard import columns
from latency_service.dashboard.campaigns import form as campaign_form
from latency_service.dashboard.campaigns import progress as campaign_progress
from latency_service.dashboard.campaigns import queries as campaign_queries
from latency_service.dashboard.campaigns.form import CampaignFormView, SpaceChoice
from latency_service.dashboard.campaigns.progress import CampaignProgress, FailureLine
from latency_service.dashboard.campaigns.queries import Filter, JobCounts
from latency_service.dashboard.formatting import short_runtime
from latency_service.dashboard.live import Parts, live
from latency_service.dashboard.pages import Pages, html, page, redirect
from latency_service.dashboard.paging import count, newest_page, whole
from latency_service.dashboard.rendering import dashboard_of
from latency_service.dashboard.rows import AnyRow
from latency_service.dashboard.signing_in import PostedForm
from latency_service.dashboard.tables import Column, Table
from latency_service.web.deps import (
    ReadSession,
    WriteSession,
    get_database,
    get_settings,
)

pages = Pages()
Key = Annotated[str | None, Query(max_length=64)]
#: Choices in the form.
_MOST_CHOICES = 200


class CampaignRow(BaseModel):
    """A campaign in the list."""

    id: str
    space: str
    device: str
    runtime: str
    purpose: str
    state: str
    phase: str
    goal_percent: float | None
    created_at: datetime
    finished_at: datetime | None
    jobs_total: int = 0
    jobs_done: int = 0
    jobs_failed: int = 0


class CampaignsView(BaseModel):
    """Campaigns, newest first."""

    total: int
    older: str | None = Field(description="`before` of the next page")
    device: str | None
    state: str | None
    space: str | None
    campaigns: list[CampaignRow]


@pages.page("/campaigns", name="campaigns")
def campaigns(
    request: Request,
    session: ReadSession,
    device: Annotated[str | None, Query(max_length=80)] = None,
    state: Literal["running", "done", "failed", "cancelled", ""] | None = None,
    space: Key = None,
    before: Key = None,
) -> Response:
    """Campaigns, newest first."""
    chosen = Filter(device or None, state or None, space or None)
    view = _view(session, chosen, before)
    return page(request, "campaigns.html", view, tables=[_table(view, chosen)])


@pages.page("/campaigns/new", name="new_campaign")
def new_campaign(
    request: Request, session: ReadSession, space: Key = None, device: Key = None
) -> Response:
    """The form that starts a campaign."""
    filled = {**campaign_form.EMPTY, "space": space or "", "device": device or ""}
    view = _form_view(session, filled)
    return page(request, "new_campaign.html", view, count_hint=campaign_form.COUNT_HINT)


@pages.post("/campaigns", name="create_campaign")
async def create_campaign(request: Request, form: PostedForm, trail: Audit) -> Response:
    """Start a campaign; where that is not possible, the form again with the reason."""
    try:
        campaign_id = await run_in_threadpool(_create, request, form, trail)
    except ServiceError as error:
        return await run_in_threadpool(_form_again, request, form, error)
    return redirect(request, "campaign", campaign_id=campaign_id)


@pages.page("/campaigns/{campaign_id}", name="campaign")
def campaign(request: Request, campaign_id: str, session: ReadSession) -> Response:
    """One campaign."""
    view = campaign_progress.read(session, campaign_id)
    return page(request, "campaign.html", view, tables=tables_of(view))


@live(pages, "/campaigns/{campaign_id}/events", name="campaign_events")
def campaign_parts(request: Request, session: Session) -> Parts:
    """What changes on a campaign's page while it runs."""
    view = campaign_progress.read(session, request.path_params["campaign_id"])
    part = dashboard_of(request).part
    context = {"view": view, "tables": tables_of(view)}
    return Parts(
        html={
            "state": part("campaign_state.html", context),
            "progress": part("campaign_progress.html", context),
        },
        is_final=view.campaign.state != "running",
    )


@pages.post("/campaigns/{campaign_id}/cancel", name="cancel_campaign")
def cancel_campaign(
    request: Request, campaign_id: str, form: PostedForm, session: WriteSession, trail: Audit
) -> Response:
    """Cancel a campaign. What was measured is kept."""
    campaigns_service.cancel(session, campaign_id)
    trail.record(session, "campaign.cancel", campaign_id)
    return redirect(request, "campaign", campaign_id=campaign_id)


def _create(request: Request, fields: dict[str, str], trail: AuditTrail) -> str:
    wanted = campaign_form.request_of(fields)
    database, settings = get_database(request), get_settings(request)
    with campaigns_service.created(database, settings, wanted) as (session, campaign):
        trail.record(session, "campaign.create", campaign.id)
        return campaign.id


def _form_again(request: Request, fields: dict[str, str], error: ServiceError) -> Response:
    filled = {name: fields.get(name, "") for name in campaign_form.EMPTY}
    with get_database(request).read() as session:
        view = _form_view(session, filled, f"{error.message} {error.cure}")
    context = {"view": view, "count_hint": campaign_form.COUNT_HINT}
    return html(request, "new_campaign.html", context, status=error.status)


def _form_view(
    session: Session, filled: dict[str, str], problem: str | None = None
) -> CampaignFormView:
    spaces, devices = campaign_queries.choices(session, _MOST_CHOICES)
    return CampaignFormView(
        spaces=[SpaceChoice(id=row[0], name=row[1]) for row in spaces],
        devices=list(devices),
        filled=filled,
        problem=problem,
    )


def _view(session: Session, chosen: Filter, before: str | None) -> CampaignsView:
    selected = campaign_queries.listed(chosen)
    found = newest_page(session, selected, Campaign.id, before)
    return CampaignsView(
        total=count(session, selected),
        older=found.older,
        device=chosen.device,
        state=chosen.state,
        space=chosen.space_id,
        campaigns=_rows(session, found.rows),
    )


def _rows(session: Session, rows: Sequence[AnyRow]) -> list[CampaignRow]:
    counts = campaign_queries.job_counts(session, [row[0] for row in rows])
    return [_row(row, counts.get(row[0], JobCounts(0, 0, 0))) for row in rows]


def _row(row: AnyRow, jobs: JobCounts) -> CampaignRow:
    names = tuple(CampaignRow.model_fields)
    fields = dict(zip(names[:10], row, strict=False))
    return CampaignRow(
        **fields, jobs_total=jobs.total, jobs_done=jobs.done, jobs_failed=jobs.failed
    )


def _table(view: CampaignsView, chosen: Filter) -> Table[CampaignRow]:
    def every(session: Session) -> Iterable[CampaignRow]:
        found = list(whole(session, campaign_queries.listed(chosen), Campaign.id))
        for begin in range(0, len(found), 500):
            yield from _rows(session, found[begin : begin + 500])

    return Table(
        caption="Campaigns, newest first",
        rows=view.campaigns,
        total=view.total,
        older=view.older,
        columns=_COLUMNS,
        empty="No campaign here. Start one with the button above, or in a terminal:",
        command="latency-service campaigns create --space SPACE --device local",
        every=every,
    )


_COLUMNS: list[Column[CampaignRow]] = [
    columns.campaign(lambda row: row.id),
    Column(head="state", cell=lambda row: row.state, kind="state"),
    Column(head="space", cell=lambda row: row.space),
    columns.device(lambda row: row.device),
    Column(head="runtime", cell=lambda row: short_runtime(row.runtime)),
    Column(head="for", cell=lambda row: row.purpose),
    Column(head="phase", cell=lambda row: row.phase),
    Column(head="done", unit="jobs", cell=lambda row: row.jobs_done, kind="count"),
    Column(head="of", unit="jobs", cell=lambda row: row.jobs_total, kind="count"),
    Column(head="failed", unit="jobs", cell=lambda row: row.jobs_failed, kind="count"),
    Column(head="created", cell=lambda row: row.created_at, kind="time"),
    Column(head="ended", cell=lambda row: row.finished_at, kind="time"),
]


def tables_of(view: CampaignProgress) -> list[Table[Any]]:
    """The tables of one campaign: its trainings and its last failures."""
    return [_round_table(view), _failure_table(view.last_failures)]


def _round_table(view: CampaignProgress) -> Table[RoundView]:
    return Table(
        caption="Error after each training, on held-out architectures",
        rows=view.campaign.rounds,
        columns=[
            Column(
                head="trained on",
                unit="architectures",
                cell=lambda row: row.measurements,
                kind="count",
            ),
            Column(
                head="error",
                unit="%",
                cell=lambda row: row.error_percent,
                kind="number",
                meaning="mean absolute percentage error",
            ),
            Column(
                head="at most",
                unit="%, 95 %",
                cell=lambda row: row.error_at_most_percent,
                kind="number",
                meaning="upper confidence bound, one-sided",
            ),
            Column(
                head="floor",
                unit="%",
                cell=lambda row: row.floor_percent,
                kind="number",
                meaning="median difference of repeated measurements",
            ),
        ],
        empty="No predictor is trained yet.",
    )


def _failure_table(rows: Sequence[FailureLine]) -> Table[FailureLine]:
    return Table(
        caption="Last failed attempts",
        is_titled=True,
        rows=rows,
        columns=[
            columns.job(lambda row: row.job_id, lambda row: row.job_id, kind="code"),
            Column(head="attempt", cell=lambda row: row.number, kind="count"),
            Column(head="failure", cell=lambda row: row.kind),
            Column(head="message", cell=lambda row: row.message, kind="prose"),
            Column(head="when", cell=lambda row: row.at, kind="time"),
        ],
        empty="No attempt failed.",
    )
