"""All SQL about runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, delete, func, insert, select, update
from sqlalchemy.orm import Session, undefer

from latency_service.predictors.models import StoredPredictor
from latency_service.runs.models import Run, RunEntry


def run(session: Session, run_id: str) -> Run | None:
    """With its report."""
    return session.scalar(select(Run).where(Run.id == run_id).options(undefer(Run.report)))


def locked(session: Session, run_id: str) -> Run | None:
    """Held until the transaction ends."""
    return session.scalar(select(Run).where(Run.id == run_id).with_for_update())


def count_entries(session: Session, run_id: str) -> int:
    """Number of entries of the history of a run that goes on."""
    highest = select(func.coalesce(func.max(RunEntry.position), -1))
    return session.execute(highest.where(RunEntry.run_id == run_id)).scalar_one() + 1


def entries(session: Session, run_id: str, step: int) -> Sequence[dict[str, Any]]:
    """The history of a run that goes on: of every `step` entries the last, counted from the end."""
    last = count_entries(session, run_id) - 1
    chosen = select(RunEntry.entry).where(
        RunEntry.run_id == run_id, (last - RunEntry.position) % step == 0
    )
    return session.scalars(chosen.order_by(RunEntry.position)).all()


def replace_entries(
    session: Session, run_id: str, first: int, entries: Sequence[dict[str, Any]]
) -> None:
    """The history from `first` on becomes `entries`."""
    mine = delete(RunEntry).where(RunEntry.run_id == run_id, RunEntry.position >= first)
    session.execute(mine)
    rows = [
        {"run_id": run_id, "position": first + index, "entry": entry}
        for index, entry in enumerate(entries)
    ]
    if rows:
        session.execute(insert(RunEntry), rows)


def runs(session: Session, limit: int, offset: int) -> Sequence[Run]:
    """Newest first, with their reports."""
    chosen = select(Run).options(undefer(Run.report)).order_by(Run.created_at.desc(), Run.id.desc())
    return session.scalars(chosen.limit(limit).offset(offset)).all()


class Chosen(NamedTuple):
    """Which runs a list shows."""

    method: str | None = None
    #: Device that the delivered file was measured on.
    device: str | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        found = []
        if self.method is not None:
            found.append(Run.method == self.method)
        if self.device is not None:
            found.append(Run.summary["device"].as_string() == self.device)
        return found


def page(session: Session, chosen: Chosen, *, before: str | None, limit: int) -> Sequence[Run]:
    """Newest first without their reports: those before the run with the id `before`. Ids ascend
    with time.
    """
    found = select(Run).where(*chosen.conditions())
    if before is not None:
        found = found.where(Run.id < before)
    return session.scalars(found.order_by(Run.id.desc()).limit(limit)).all()


def count(session: Session, chosen: Chosen) -> int:
    counted = select(func.count()).select_from(Run)
    return session.scalar(counted.where(*chosen.conditions())) or 0


def methods(session: Session) -> Sequence[str]:
    """Names of the methods of all runs."""
    return session.scalars(select(Run.method).distinct().order_by(Run.method)).all()


def with_ids(session: Session, ids: Sequence[str]) -> Sequence[Run]:
    """The runs of these ids that there are, in no order, with their reports."""
    chosen = select(Run).where(Run.id.in_(ids)).options(undefer(Run.report))
    return session.scalars(chosen).all()


def forget_predictors(session: Session, target_ids: Sequence[str]) -> None:
    """No run refers to a predictor of these targets any more."""
    theirs = select(StoredPredictor.id).where(StoredPredictor.target_id.in_(target_ids))
    session.execute(
        update(Run)
        .where(Run.predictor_id.in_(theirs))
        # the client was last heard of when it was
        .values(predictor_id=None, updated_at=Run.updated_at)
    )
