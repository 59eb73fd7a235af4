"""What the lease protocol needs to know of a job and an attempt: some of their columns, read as
plain rows, since the session takes longer to make objects of them than the database to find them.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, NamedTuple


class JobSpec(NamedTuple):
    """Columns of `jobs.models.Job` that never change: what is to be measured or trained."""

    id: str
    kind: str
    device_id: str | None
    campaign_id: str | None
    space_id: str | None
    model_sha256: str | None
    opset: int
    runtime: dict[str, Any]
    protocol: dict[str, Any]
    seed: int
    architectures: list[list[int]]
    #: Phase of the campaign that the job belongs to.
    stage: str | None
    target_id: str | None
    lattice_id: str | None


class JobFacts(NamedTuple):
    """Columns of `jobs.models.Job` that say how far it is, and whom its end concerns."""

    id: str
    kind: str
    state: str
    campaign_id: str | None
    space_id: str | None
    model_sha256: str | None
    target_id: str | None
    attempts_used: int
    attempts_lost: int


class AttemptFacts(NamedTuple):
    """Columns of `jobs.models.Attempt`."""

    id: str
    agent_id: str
    state: str
    expires_at: datetime
    digest: str | None


class Held(NamedTuple):
    """An attempt and its job, both locked."""

    job: JobFacts
    attempt: AttemptFacts
    #: Whether the lease had run out when they were read.
    ran_out: bool

    @property
    def is_timely(self) -> bool:
        """Whether the attempt is open and its lease had not run out."""
        return self.attempt.state == "open" and not self.ran_out


class Claimed(NamedTuple):
    """A job that was taken and the attempt at it."""

    spec: JobSpec
    attempt_id: str
    #: Which attempt at the job it is, counted from 1.
    number: int
