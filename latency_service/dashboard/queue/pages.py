"""Pages of the queue: what waits, who works on what, what failed; and one job."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import Query, Request
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session
from starlette.responses import Response

from latency_service.dashboard import columns
from latency_service.dashboard.pages import Pages, page
from latency_service.dashboard.paging import newest_page, whole
from latency_service.dashboard.queue import queries as queue_queries
from latency_service.dashboard.rows import AnyRow
from latency_service.dashboard.tables import PAGE_ROWS, Column, Table
from latency_service.devices import service as devices_service
from latency_service.jobs import repository as jobs_repository
from latency_service.jobs.models import Job
from latency_service.jobs.schemas import AttemptView, JobView
from latency_service.verifications import views as job_views
from latency_service.web.deps import ReadSession

pages = Pages()
State = Literal["queued", "leased", "done", "failed", "cancelled"]
STATES: tuple[State, ...] = ("queued", "leased", "done", "failed", "cancelled")


class JobRow(BaseModel):
    """A job in the list."""

    id: str
    kind: str
    state: str
    device: str | None
    campaign_id: str | None
    phase: str | None
    priority: int = Field(description="lowest first")
    attempts: int
    failure_kind: str | None
    message: str | None
    created_at: datetime
    finished_at: datetime | None


class WorkRow(BaseModel):
    """An open attempt."""

    job_id: str
    kind: str
    device: str | None
    agent_id: str
    number: int
    leased_at: datetime
    expires_at: datetime


class QueueView(BaseModel):
    """Jobs of one state, newest first, and the attempts under way."""

    counts: dict[str, int]
    oldest_waiting_at: datetime | None
    state: State
    device: str | None
    total: int
    older: str | None = Field(description="`before` of the next page")
    jobs: list[JobRow]
    work: list[WorkRow]


class OneJobView(BaseModel):
    """A job with its attempts and its result."""

    job: JobView
    device: str | None


@pages.page("/queue", name="queue")
def queue(
    request: Request,
    session: ReadSession,
    state: State = "queued",
    device: Annotated[str | None, Query(max_length=80)] = None,
    before: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """The queue."""
    view = _view(session, state, device or None, before)
    tables: list[Table[Any]] = [_table(view), _work_table(view)]
    return page(request, "queue.html", view, tables=tables, states=STATES)


@pages.page("/jobs/{job_id}", name="job")
def job(request: Request, job_id: str, session: ReadSession) -> Response:
    """One job."""
    found = job_views.get(session, job_id)
    view = OneJobView(job=found, device=queue_queries.device_of(session, found.device_id))
    return page(request, "job.html", view, tables=[_attempt_table(found)])


def _view(session: Session, state: State, device: str | None, before: str | None) -> QueueView:
    known = None if device is None else devices_service.get_device(session, device).id
    counts = jobs_repository.count_by_state(session, known)
    selected = queue_queries.listed(state, known)
    found = newest_page(session, selected, Job.id, before)
    return QueueView(
        counts=counts,
        oldest_waiting_at=queue_queries.oldest_waiting(session, known),
        state=state,
        device=device,
        total=counts.get(state, 0),
        older=found.older,
        jobs=[_row(row) for row in found.rows],
        work=_work(session, known),
    )


def _row(row: AnyRow) -> JobRow:
    names = tuple(JobRow.model_fields)
    return JobRow.model_validate(dict(zip(names, row, strict=False)))


def _work(session: Session, device_id: str | None) -> list[WorkRow]:
    names = tuple(WorkRow.model_fields)
    rows = queue_queries.under_way(session, device_id, PAGE_ROWS)
    return [WorkRow.model_validate(dict(zip(names, row, strict=True))) for row in rows]


def _table(view: QueueView) -> Table[JobRow]:
    def every(session: Session) -> Iterable[JobRow]:
        known = None if view.device is None else devices_service.get_device(session, view.device).id
        rows = whole(session, queue_queries.listed(view.state, known), Job.id)
        return (_row(row) for row in rows)

    return Table(
        caption=f"Jobs {view.state}, newest first",
        rows=view.jobs,
        total=view.total,
        older=view.older,
        columns=[*_COLUMNS, *(_FAILURE if view.state == "failed" else []), _CREATED],
        empty=f"No job is {view.state}.",
        every=every,
    )


_COLUMNS: list[Column[JobRow]] = [
    columns.job(lambda row: row.id, lambda row: row.id, kind="code"),
    Column(head="kind", cell=lambda row: row.kind),
    Column(head="state", cell=lambda row: row.state, kind="state"),
    columns.device(lambda row: row.device),
    columns.campaign(lambda row: row.campaign_id),
    Column(head="phase", cell=lambda row: row.phase),
    Column(
        head="priority", cell=lambda row: row.priority, kind="count", meaning="lowest goes first"
    ),
    Column(head="attempts", cell=lambda row: row.attempts, kind="count"),
]
_FAILURE: list[Column[JobRow]] = [
    Column(head="failure", cell=lambda row: row.failure_kind),
    Column(head="message", cell=lambda row: row.message, kind="prose"),
    Column(head="ended", cell=lambda row: row.finished_at, kind="time"),
]
_CREATED: Column[JobRow] = Column(head="created", cell=lambda row: row.created_at, kind="time")


def _work_table(view: QueueView) -> Table[WorkRow]:
    return Table(
        caption="Under way, longest first",
        is_titled=True,
        rows=view.work,
        columns=[
            columns.job(lambda row: row.job_id, lambda row: row.kind),
            columns.device(lambda row: row.device, head="on"),
            Column(head="agent", cell=lambda row: row.agent_id, kind="code"),
            Column(head="attempt", cell=lambda row: row.number, kind="count"),
            Column(head="leased", cell=lambda row: row.leased_at, kind="time"),
            Column(head="lease ends", cell=lambda row: row.expires_at, kind="time"),
        ],
        empty="Nobody works on a job.",
    )


def _attempt_table(found: JobView) -> Table[AttemptView]:
    return Table(
        caption="Attempts",
        is_titled=True,
        rows=found.attempts,
        columns=[
            Column(head="attempt", cell=lambda row: row.number, kind="count"),
            Column(head="state", cell=lambda row: row.state, kind="state"),
            Column(head="agent", cell=lambda row: row.agent_id, kind="code"),
            Column(head="leased", cell=lambda row: row.leased_at, kind="time"),
            Column(head="ended", cell=lambda row: row.finished_at, kind="time"),
            Column(head="measuring", cell=lambda row: row.wall_seconds, kind="duration"),
            Column(head="timed", cell=lambda row: row.timed_seconds, kind="duration"),
            Column(head="failure", cell=lambda row: row.failure_kind),
            Column(head="message", cell=lambda row: row.message, kind="prose"),
        ],
        empty="Nobody has taken it yet.",
    )
