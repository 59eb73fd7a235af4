"""Routes of pruning runs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from latency_service.auth.access import access
from latency_service.auth.audit import Audit
from latency_service.runs import repository, service
from latency_service.runs.schemas import RunRequest, RunView
from latency_service.web.deps import ReadSession, WriteSession

router = APIRouter(prefix="/v1/runs", tags=["runs"])


@router.post("", status_code=201, dependencies=access("submit"))
def create_run(body: RunRequest, session: WriteSession, trail: Audit) -> RunView:
    """Record a pruning run with its report."""
    view = service.create(session, body)
    trail.record(session, "run.create", view.id)
    return view


@router.get("", dependencies=access("read"))
def list_runs(
    session: ReadSession,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=1_000_000_000)] = 0,
) -> list[RunView]:
    """Runs, newest first."""
    return [service.show(row) for row in repository.runs(session, limit, offset)]


@router.get("/{run_id}", dependencies=access("read"))
def show_run(run_id: str, session: ReadSession) -> RunView:
    """One run with its report."""
    return service.get(session, run_id)
