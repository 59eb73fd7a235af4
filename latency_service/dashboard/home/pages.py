"""The first page: what runs now, what failed, what is new."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from fastapi import Request
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session
from starlette.responses import Response

from latency_service.dashboard import columns
from latency_service.dashboard.home import queries as home_queries
from latency_service.dashboard.live import Parts, live
from latency_service.dashboard.pages import Pages, page
from latency_service.dashboard.rendering import dashboard_of
from latency_service.dashboard.tables import Column, Table
from latency_service.devices import service as devices_service
from latency_service.jobs import repository as jobs_repository
from latency_service.settings import Settings
from latency_service.web.deps import Config, ReadSession, get_settings

pages = Pages()
#: Rows of each list of this page.
_SHOWN = 5
_UNDER_WAY = 20


class WorkRow(BaseModel):
    """A job that somebody works on."""

    job_id: str
    kind: str
    campaign_id: str | None
    device: str | None = Field(description="None for trainings")
    since: datetime


class FailureRow(BaseModel):
    """A job that failed."""

    job_id: str
    kind: str
    campaign_id: str | None
    device: str | None = Field(description="None for trainings")
    failure_kind: str | None
    message: str | None
    at: datetime


class CampaignRow(BaseModel):
    id: str
    space: str
    device: str
    purpose: str
    state: str
    created_at: datetime


class PredictorRow(BaseModel):
    id: str
    space: str
    device: str
    runtime: str
    version: int
    state: str = Field(description="`stale` once its target has changed")
    error_percent: float = Field(description="mean absolute error on held-out architectures")
    floor_percent: float | None = Field(description="median difference of repeated measurements")
    created_at: datetime


class RunRow(BaseModel):
    id: str
    name: str
    method: str
    budget_ms: float
    created_at: datetime


class NowView(BaseModel):
    """What changes on the first page while one looks at it."""

    devices_online: int
    devices_offline: int
    offline: list[str]
    jobs: dict[str, int] = Field(description="number of jobs by state")
    failed_today: int
    work: list[WorkRow]


class HomeView(NowView):
    """What the first page shows."""

    totals: dict[str, int]
    failures: list[FailureRow]
    campaigns: list[CampaignRow]
    predictors: list[PredictorRow]
    runs: list[RunRow]


@pages.page("/", name="home", data="/home")
def home(request: Request, session: ReadSession, settings: Config) -> Response:
    """The first page."""
    view = _view(session, settings)
    return page(
        request,
        "home.html",
        view,
        tables=[
            _campaign_table(view.campaigns),
            _work_table(view.work),
            _failure_table(view.failures),
            _predictor_table(view.predictors),
            _run_table(view.runs),
        ],
    )


@live(pages, "/home/events", name="home_events")
def home_parts(request: Request, session: Session) -> Parts:
    """The part with what runs now."""
    view = _now(session, get_settings(request))
    context = {"view": view, "work": _work_table(view.work)}
    return Parts(html={"now": dashboard_of(request).part("home_now.html", context)})


def _now(session: Session, settings: Settings) -> NowView:
    since = devices_service.online_since(session, settings)
    contacts = home_queries.last_contacts(session)
    offline = [name for name, seen in contacts if seen is None or seen < since]
    return NowView(
        devices_online=len(contacts) - len(offline),
        devices_offline=len(offline),
        offline=offline[:_SHOWN],
        jobs=jobs_repository.count_by_state(session),
        failed_today=home_queries.count_failed_today(session),
        work=_work(session),
    )


def _view(session: Session, settings: Settings) -> HomeView:
    now = _now(session, settings)
    return HomeView(
        **dict(now),
        totals=home_queries.totals(session),
        failures=_failures(session),
        campaigns=_campaigns(session),
        predictors=_predictors(session),
        runs=_runs(session),
    )


def _work(session: Session) -> list[WorkRow]:
    return [
        WorkRow(job_id=row[0], kind=row[1], campaign_id=row[2], device=row[3], since=row[4])
        for row in home_queries.attempts_under_way(session, _UNDER_WAY)
    ]


def _failures(session: Session) -> list[FailureRow]:
    return [
        FailureRow(
            job_id=row[0],
            kind=row[1],
            campaign_id=row[2],
            device=row[3],
            failure_kind=row[4],
            message=row[5],
            at=row[6],
        )
        for row in home_queries.failed_today(session, _SHOWN)
    ]


def _campaigns(session: Session) -> list[CampaignRow]:
    names = tuple(CampaignRow.model_fields)
    return [
        CampaignRow.model_validate(dict(zip(names, row, strict=True)))
        for row in home_queries.campaigns(session, _SHOWN)
    ]


def _predictors(session: Session) -> list[PredictorRow]:
    return [
        PredictorRow(
            id=row[0],
            space=row[1],
            device=row[2],
            runtime=row[3],
            version=row[4],
            state="current" if row[5] else "stale",
            error_percent=row[6]["mape"],
            floor_percent=row[6]["repeat_difference"],
            created_at=row[7],
        )
        for row in home_queries.predictors(session, _SHOWN)
    ]


def _runs(session: Session) -> list[RunRow]:
    names = tuple(RunRow.model_fields)
    return [
        RunRow.model_validate(dict(zip(names, row, strict=True)))
        for row in home_queries.runs(session, _SHOWN)
    ]


def _work_table(rows: Sequence[WorkRow]) -> Table[WorkRow]:
    return Table(
        caption="Jobs under way",
        is_titled=True,
        rows=rows,
        columns=[
            columns.job(lambda row: row.job_id, lambda row: row.kind),
            columns.device(lambda row: row.device, head="on"),
            columns.campaign(lambda row: row.campaign_id),
            Column(head="since", cell=lambda row: row.since, kind="time"),
        ],
        empty="Nothing is being measured or trained.",
    )


def _failure_table(rows: Sequence[FailureRow]) -> Table[FailureRow]:
    return Table(
        caption="The last jobs that failed within 24 hours",
        is_titled=True,
        rows=rows,
        columns=[
            columns.job(lambda row: row.job_id, lambda row: row.failure_kind, head="failure"),
            columns.device(lambda row: row.device, head="on"),
            Column(head="message", cell=lambda row: row.message, kind="prose"),
            Column(head="when", cell=lambda row: row.at, kind="time"),
        ],
        empty="No job failed within the last 24 hours.",
    )


def _campaign_table(rows: Sequence[CampaignRow]) -> Table[CampaignRow]:
    return Table(
        caption="Newest campaigns",
        is_titled=True,
        rows=rows,
        columns=[
            columns.campaign(lambda row: row.id),
            Column(head="space", cell=lambda row: row.space),
            columns.device(lambda row: row.device),
            Column(head="for", cell=lambda row: row.purpose),
            Column(head="state", cell=lambda row: row.state, kind="state"),
            Column(head="created", cell=lambda row: row.created_at, kind="time"),
        ],
        empty="No campaign yet. Start one on the page Campaigns, or in a terminal:",
        command="latency-service campaigns create --space SPACE --device local",
    )


def _predictor_table(rows: Sequence[PredictorRow]) -> Table[PredictorRow]:
    return Table(
        caption="Newest predictors",
        is_titled=True,
        rows=rows,
        columns=[
            Column(
                head="space",
                cell=lambda row: row.space,
                link=lambda row: ("predictor", {"predictor_id": row.id}),
            ),
            columns.device(lambda row: row.device),
            Column(
                head="error",
                unit="%",
                cell=lambda row: row.error_percent,
                kind="number",
                meaning="mean absolute error on held-out architectures",
            ),
            Column(
                head="floor",
                unit="%",
                cell=lambda row: row.floor_percent,
                kind="number",
                meaning="median difference of repeated measurements",
            ),
            Column(head="state", cell=lambda row: row.state, kind="state"),
            Column(head="created", cell=lambda row: row.created_at, kind="time"),
        ],
        empty="No predictor yet. A campaign trains one.",
    )


def _run_table(rows: Sequence[RunRow]) -> Table[RunRow]:
    return Table(
        caption="Newest pruning runs",
        is_titled=True,
        rows=rows,
        columns=[
            Column(
                head="run",
                cell=lambda row: row.name,
                link=lambda row: ("run", {"run_id": row.id}),
            ),
            Column(head="method", cell=lambda row: row.method),
            Column(head="budget", unit="ms", cell=lambda row: row.budget_ms, kind="number"),
            Column(head="created", cell=lambda row: row.created_at, kind="time"),
        ],
        empty="No pruning run yet. In a terminal:",
        command="pruning-client prune --help",
    )
