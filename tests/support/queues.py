"""Waiting for work without asking for it: polls in a test's own process slow the test down."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event
from sqlalchemy.orm import Session, object_session

from latency_service.jobs.models import Job

_WRITTEN = "jobs_written"


@contextmanager
def jobs_written() -> Iterator[threading.Event]:
    """An event that is set after each commit of this process that adds or changes jobs."""
    written = threading.Event()

    def note(_mapper: Any, _connection: Any, job: Job) -> None:
        session = object_session(job)
        assert session is not None
        session.info[_WRITTEN] = True

    def tell(session: Session) -> None:
        if session.info.get(_WRITTEN):
            written.set()

    listeners = [(Job, "after_insert", note), (Job, "after_update", note)]
    listeners.append((Session, "after_commit", tell))
    for listener in listeners:
        event.listen(*listener)
    yield written
    for listener in listeners:
        event.remove(*listener)
