"""The lease protocol in a few lines, for comparing the service with: DESIGN's table of results, the
limits on attempts, and the end of a lease by elapsed time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

LEASE_SECONDS = 60.0
MAX_ATTEMPTS = 2
MAX_LOST_ATTEMPTS = 3


@dataclass(kw_only=True)
class ModelAttempt:
    """One try of a job, as the service should see it."""

    id: str
    agent: int
    job: ModelJob
    state: str = "open"
    digest: str | None = None
    #: End of the lease by elapsed time, and by the database's clock.
    ends: float
    ends_by_clock: float


@dataclass(kw_only=True)
class ModelJob:
    id: str
    state: str = "queued"
    failures: int = 0
    losses: int = 0
    attempts: list[ModelAttempt] = field(default_factory=list)

    @property
    def stored(self) -> int:
        """Number of results that are kept."""
        return sum(attempt.digest is not None for attempt in self.attempts)


@dataclass(kw_only=True)
class ProtocolModel:
    """Jobs in the order of their queue, and two clocks."""

    jobs: list[ModelJob]
    elapsed: float = 0.0
    clock: float = 0.0

    @property
    def attempts(self) -> Sequence[ModelAttempt]:
        return [attempt for job in self.jobs for attempt in job.attempts]

    def open_attempts(self) -> Iterator[ModelAttempt]:
        return (attempt for attempt in self.attempts if attempt.state == "open")

    def next_job(self, agent: int) -> ModelJob | None:
        """The job that the agent gets when it asks; what it still holds is lost."""
        for attempt in self.open_attempts():
            if attempt.agent == agent:
                self._lose(attempt)
        return next((job for job in self.jobs if job.state == "queued"), None)

    def lease(self, job: ModelJob, agent: int, attempt_id: str) -> None:
        job.state = "leased"
        attempt = ModelAttempt(id=attempt_id, agent=agent, job=job, ends=0, ends_by_clock=0)
        job.attempts.append(attempt)
        self._prolong(attempt)

    def renew(self, attempt: ModelAttempt) -> str:
        if attempt.state == "open":
            self._prolong(attempt)
            return "renewed"
        return "cancelled" if attempt.state == "cancelled" else "lost"

    def send(self, attempt: ModelAttempt, digest: str) -> str:
        """A row of DESIGN's table."""
        if attempt.digest is not None:
            return "repeated" if attempt.digest == digest else "another_digest"
        if attempt.state == "failed":
            return "failed"
        if attempt.job.state == "done":
            return self._keep(attempt, digest, "superseded")
        in_time = attempt.state == "open" and self.clock < attempt.ends_by_clock
        answer = self._keep(attempt, digest, "accepted" if in_time else "late")
        for newer in attempt.job.attempts:
            if newer.state == "open":
                newer.state = "cancelled"
        attempt.job.state = "done"
        return answer

    def fail(self, attempt: ModelAttempt) -> None:
        if attempt.state != "open":
            return
        attempt.state = "failed"
        attempt.job.failures += 1
        self._give_back(attempt.job)

    def sweep(self) -> None:
        """End the leases whose time has passed."""
        for attempt in self.open_attempts():
            if attempt.ends <= self.elapsed:
                self._lose(attempt)

    def _keep(self, attempt: ModelAttempt, digest: str, outcome: str) -> str:
        attempt.digest = digest
        attempt.state = "done" if outcome == "accepted" else outcome
        return outcome

    def _prolong(self, attempt: ModelAttempt) -> None:
        attempt.ends = self.elapsed + LEASE_SECONDS
        attempt.ends_by_clock = self.clock + LEASE_SECONDS

    def _lose(self, attempt: ModelAttempt) -> None:
        attempt.state = "expired"
        attempt.job.losses += 1
        self._give_back(attempt.job)

    def _give_back(self, job: ModelJob) -> None:
        has_failed = job.failures >= MAX_ATTEMPTS or job.losses >= MAX_LOST_ATTEMPTS
        job.state = "failed" if has_failed else "queued"
