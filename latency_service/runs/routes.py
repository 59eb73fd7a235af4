"""Routes of pruning runs."""

from __future__ import annotations

from latency_service.auth.access import access
from latency_service.auth.audit import Audit
from latency_service.runs import repository, service
from latency_service.runs.schemas import (
    RunFailure,
    RunProgress,
    RunReport,
    RunRequest,
    RunView,
)
from latency_service.web.answers import errors
from latency_service.web.deps import Limit, Offset, ReadSession, WriteSession
from latency_service.web.routing import Router, body_kind

router = Router(prefix="/v1/runs", tags=["runs"])


@router.post("", status_code=201, dependencies=access("submit"), responses=errors(404))
@body_kind("run")
def create_run(body: RunRequest, session: WriteSession, trail: Audit) -> RunView:
    """Record a pruning run: without a report one that begins, with its report one that has
    ended.
    """
    view = service.create(session, body)
    trail.record(session, "run.create", view.id)
    return view


@router.put(
    "/{run_id}/progress", status_code=204, dependencies=access("submit"), responses=errors(409)
)
@body_kind("run")
def put_progress(run_id: str, body: RunProgress, session: WriteSession) -> None:
    """Note how far a run is: its phase, entries of its history, files measured. 409 when it has a
    result.
    """
    service.progress(session, run_id, body)


@router.put("/{run_id}/report", dependencies=access("submit"), responses=errors(409))
@body_kind("run")
def put_report(run_id: str, body: RunReport, session: WriteSession, trail: Audit) -> RunView:
    """Record the report of a run that has ended."""
    view = service.finish(session, run_id, body)
    trail.record(session, "run.finish", view.id)
    return view


@router.put(
    "/{run_id}/failure", status_code=204, dependencies=access("submit"), responses=errors(409)
)
def put_failure(run_id: str, body: RunFailure, session: WriteSession, trail: Audit) -> None:
    """Record that a run has ended without a result, and why."""
    service.fail(session, run_id, body)
    trail.record(session, "run.fail", run_id)


@router.get("", dependencies=access("read"))
def list_runs(
    session: ReadSession,
    limit: Limit = 100,
    offset: Offset = 0,
) -> list[RunView]:
    """Runs, newest first."""
    return [service.show(row) for row in repository.runs(session, limit, offset)]


@router.get("/{run_id}", dependencies=access("read"))
def show_run(run_id: str, session: ReadSession) -> RunView:
    """One run with its report."""
    return service.get(session, run_id)
