"""Pruning runs of the client, recorded beside the measurements that prove them."""

from __future__ import annotations

from sqlalchemy.orm import Session

from latency_service.core.errors import NotFound
from latency_service.predictors import service as predictors_service
from latency_service.runs import repository
from latency_service.runs.models import Run
from latency_service.runs.schemas import RunRequest, RunView
from latency_service.spaces import service as spaces_service


def create(session: Session, request: RunRequest) -> RunView:
    """Record a run.

    Raises:
        NotFound: its search space or predictor is not known here.
    """
    space = spaces_service.get_space(session, request.space_id)
    if request.predictor_id is not None:
        predictors_service.get(session, request.predictor_id)
    row = Run(**request.model_dump(exclude={"space_id"}), space_id=space.id)
    session.add(row)
    session.flush()
    return show(row)


def get(session: Session, run_id: str) -> RunView:
    """The run with that id.

    Raises:
        NotFound: there is none.
    """
    row = repository.run(session, run_id)
    if row is None:
        raise NotFound(f"There is no run {run_id!r}.", "List them with GET /v1/runs.")
    return show(row)


def show(row: Run) -> RunView:
    return RunView(**{name: getattr(row, name) for name in RunView.model_fields})
