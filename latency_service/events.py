"""What follows when a job has ended: rooms above the queue register what they do then.

`wiring.connect_handlers` registers the service's own; whatever ends jobs (the HTTP service, the
training worker) calls it once at its start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy.orm import Session

from latency_service.db.engine import Database


@dataclass(frozen=True, kw_only=True)
class JobEnded:
    """A job that is done or failed, within the transaction that ended it."""

    job_id: str
    #: Kind of the job: measure, verify or train.
    kind: str
    #: State in which it ended: done or failed.
    state: str
    campaign_id: str | None
    space_id: str | None
    #: Delivered file that the job measured.
    model_sha256: str | None
    #: Target that the job's measurements turned out to be on, if it brought any.
    target_id: str | None


#: Called in the transaction that ended the job; raising rolls it back.
Handler = Callable[[Session, JobEnded], None]
#: Called with the job's campaign and the job's stage in it before that transaction, so that what
#: takes long is not done while other writers wait.
Preparation = Callable[[Database, str, str | None], None]

_handlers: list[Handler] = []
_preparations: list[Preparation] = []


def on_job_ended(handler: Handler) -> None:
    """Register a handler, once; handlers run in the order of their registration."""
    if handler not in _handlers:
        _handlers.append(handler)


def on_job_ending(preparation: Preparation) -> None:
    """Register a preparation, once."""
    if preparation not in _preparations:
        _preparations.append(preparation)


def prepare(database: Database, campaign_id: str | None, stage: str | None) -> None:
    """Run every preparation for the end of a job."""
    if campaign_id is not None:
        for preparation in _preparations:
            preparation(database, campaign_id, stage)


def announce(session: Session, event: JobEnded) -> None:
    """Run every handler."""
    for handler in _handlers:
        handler(session, event)
