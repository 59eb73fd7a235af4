"""Pruning runs of the client, recorded beside the measurements that prove them."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from sqlalchemy.orm import Session

from latency_service.core.errors import BadRequest, Conflict, NotFound
from latency_service.devices import repository as devices_repository
from latency_service.predictors import service as predictors_service
from latency_service.runs import reports, repository
from latency_service.runs.models import Run
from latency_service.runs.schemas import (
    HistoryEntry,
    RunFailure,
    RunProgress,
    RunReport,
    RunRequest,
    RunSummary,
    RunVerification,
    RunView,
)
from latency_service.spaces import service as spaces_service


def create(session: Session, request: RunRequest) -> RunView:
    """Record a run that begins, or with its report one that has ended.

    Raises:
        NotFound: its search space or predictor is not known here.
        BadRequest: figures of the report are of the wrong type.
    """
    space = spaces_service.get_space(session, request.space_id)
    if request.predictor_id is not None:
        predictors_service.get(session, request.predictor_id)
    row = Run(**request.model_dump(exclude={"space_id", "report"}), space_id=space.id)
    session.add(row)
    session.flush()
    if request.report is not None:
        _end(session, row, request.report)
        session.flush()
    return show(row)


def progress(session: Session, run_id: str, news: RunProgress) -> None:
    """Note how far a run is. Entries that are there already are replaced; one that failed goes on.

    Raises:
        NotFound: there is no such run.
        Conflict: it has a result, or entries before `news.first` are missing.
    """
    row = _locked(session, run_id)
    if row.state == "done":
        raise _ended(row)
    count = repository.count_entries(session, run_id)
    if news.first > count:
        raise Conflict(
            f"The run's history has {count} entries; entry {news.first} cannot follow.",
            f"Send the entries from {count} on.",
        )
    if news.entries:
        entries = [entry.model_dump(exclude_unset=True) for entry in news.entries]
        repository.replace_entries(session, run_id, news.first, entries)
    if news.verifications is not None:
        row.verifications = [entry.model_dump() for entry in news.verifications]
    row.state = "running"
    row.failure = None
    row.phase = news.phase
    row.done = news.done
    row.total = news.total
    row.updated_at = devices_repository.now(session)
    session.flush()


def finish(session: Session, run_id: str, ended: RunReport) -> RunView:
    """Record the report of a run that has ended; repeating it changes nothing. One that failed and
    was resumed has a result after all.

    Raises:
        NotFound: there is no such run.
        BadRequest: figures of the report are of the wrong type.
    """
    row = _locked(session, run_id)
    _end(session, row, ended.report)
    session.flush()
    return show(row)


def fail(session: Session, run_id: str, failure: RunFailure) -> None:
    """Record that a run has ended without a result.

    Raises:
        NotFound: there is no such run.
        Conflict: it has a result.
    """
    row = _locked(session, run_id)
    if row.state == "done":
        raise _ended(row)
    row.state = "failed"
    row.failure = failure.message
    session.flush()


def get(session: Session, run_id: str) -> RunView:
    """The run with that id.

    Raises:
        NotFound: there is none.
    """
    return show(_known(repository.run(session, run_id), run_id))


def whole(session: Session, run_id: str) -> Run:
    """The stored run with its report.

    Raises:
        NotFound: there is none.
    """
    return _known(repository.run(session, run_id), run_id)


def history_of(session: Session, row: Run, most: int) -> tuple[list[HistoryEntry], int]:
    """Entries of the training, of a run that goes on as of one that has ended, and how many there
    are. Of more than `most` only every second is read, or every third and so on, and always the
    last: a run that goes on is looked at again and again.
    """
    recorded = reports.list_of(row.report, "history")
    count = repository.count_entries(session, row.id) if recorded is None else len(recorded)
    step = max(1, -(-count // most))
    if recorded is None:
        entries = list(repository.entries(session, row.id, step))
    else:
        entries = recorded[(count - 1) % step :: step]
    return reports.entries_of(entries), count


def verifications_of(row: Run) -> list[RunVerification]:
    """Measurements of whole files, of a run that goes on as of one that has ended."""
    recorded = reports.list_of(row.report, "verifications")
    return reports.verifications_of(row.verifications if recorded is None else recorded)


def show(row: Run) -> RunView:
    return RunView(**{name: getattr(row, name) for name in RunView.model_fields})


def summary_of(report: dict[str, Any]) -> RunSummary:
    """What lists show of a report; None for each figure that it lacks.

    Raises:
        BadRequest: a figure is of the wrong type.
    """
    try:
        return RunSummary.model_validate(
            {name: value for name, value in report.items() if value is not None}
        )
    except ValidationError as error:
        place = ".".join(str(part) for part in error.errors()[0]["loc"])
        raise BadRequest(
            f"The report's {place!r} is not valid: {error.errors()[0]['msg']}.",
            "Send the content of a report.json as the pruning client wrote it.",
        ) from error


def _end(session: Session, row: Run, report: dict[str, Any]) -> None:
    row.summary = summary_of(report).model_dump()
    row.state = "done"
    row.failure = None
    row.report = report
    if isinstance(report.get("history"), list):
        repository.replace_entries(session, row.id, 0, [])
    if isinstance(report.get("verifications"), list):
        row.verifications = None


def _locked(session: Session, run_id: str) -> Run:
    return _known(repository.locked(session, run_id), run_id)


def _known(row: Run | None, run_id: str) -> Run:
    if row is None:
        raise NotFound(f"There is no run {run_id!r}.", "List them with: latency-service runs list")
    return row


def _ended(row: Run) -> Conflict:
    return Conflict(f"The run {row.id!r} has ended: it is {row.state}.", "Begin a new run.")
