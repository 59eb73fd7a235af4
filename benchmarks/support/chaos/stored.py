"""The rows of a service's database that prove what became of the work, read after a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from latency_service.campaigns.models import Campaign
from latency_service.db.engine import Database
from latency_service.jobs.models import Attempt, Job
from latency_service.measurements.models import Measurement


@dataclass(frozen=True, kw_only=True)
class StoredCampaign:
    id: str
    state: str


@dataclass(frozen=True, kw_only=True)
class StoredJob:
    id: str
    campaign_id: str | None
    state: str
    #: Width vectors [B][G] to measure.
    architectures: list[list[int]]
    failure_kind: str | None = None


@dataclass(frozen=True, kw_only=True)
class StoredAttempt:
    id: str
    job_id: str
    agent_id: str
    number: int
    state: str
    leased_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class StoredMeasurement:
    id: str
    job_id: str
    attempt_id: str
    #: Index in the architectures of the job.
    position: int
    widths: list[int]
    latency_ms: float
    counted: bool


@dataclass(frozen=True, kw_only=True)
class Stored:
    """All rows of the four tables."""

    campaigns: list[StoredCampaign]
    jobs: list[StoredJob]
    attempts: list[StoredAttempt]
    measurements: list[StoredMeasurement]


def read(url: str) -> Stored:
    """The rows of the database at this address."""
    database = Database(url)
    try:
        with database.read() as session:
            return Stored(
                campaigns=[StoredCampaign(**row) for row in _rows(session, StoredCampaign)],
                jobs=[StoredJob(**row) for row in _rows(session, StoredJob)],
                attempts=[StoredAttempt(**row) for row in _rows(session, StoredAttempt)],
                measurements=[
                    StoredMeasurement(**row) for row in _rows(session, StoredMeasurement)
                ],
            )
    finally:
        database.dispose()


_TABLES: dict[type, type] = {
    StoredCampaign: Campaign,
    StoredJob: Job,
    StoredAttempt: Attempt,
    StoredMeasurement: Measurement,
}


def _rows(session: Session, kind: type) -> Iterator[dict[str, Any]]:
    """Every row of the kind's table, the fields of the kind only."""
    table = _TABLES[kind]
    columns = [getattr(table, name) for name in kind.__dataclass_fields__]
    for row in session.execute(select(*columns).order_by(table.id)):
        yield dict(row._mapping)
