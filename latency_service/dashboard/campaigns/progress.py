"""How far a campaign is, how fast, and how long it still takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime

from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from latency_service.campaigns import repository as campaigns_repository
from latency_service.campaigns import service as campaigns_service
from latency_service.campaigns.schemas import CampaignView
from latency_service.dashboard.campaigns import queries as campaign_queries
from latency_service.dashboard.rows import AnyRow
from latency_service.devices import repository as devices_repository
from latency_service.jobs import repository as jobs_repository
from latency_service.measurements import repository as measurements_repository
from latency_service.spaces import repository as spaces_repository

STAGES = ("lattice", "measuring", "training")
#: Jobs from which the rate is taken.
RATE_JOBS = 10
_LAST_FAILURES = 5


class PhaseProgress(BaseModel):
    """Jobs and architectures of one phase."""

    phase: str
    state: str = Field(description="queued, running, done or failed")
    jobs: dict[str, int] = Field(description="number of jobs by state")
    jobs_total: int
    jobs_ended: int
    architectures_total: int
    architectures_measured: int


class Rate(BaseModel):
    """How fast the running phase is, from its last jobs."""

    jobs: int = Field(description="last jobs that it is taken from")
    architectures_per_minute: float
    seconds_left: float = Field(description="of the phase, when it goes on like this")


class FailureCount(BaseModel):
    kind: str
    attempts: int
    last_at: datetime | None


class FailureLine(BaseModel):
    """A failed attempt."""

    job_id: str
    number: int
    kind: str
    message: str | None
    at: datetime | None


class CampaignProgress(BaseModel):
    """A campaign as its page shows it."""

    campaign: CampaignView
    space: str
    now: datetime
    phases: list[PhaseProgress]
    rate: Rate | None
    failures: list[FailureCount]
    last_failures: list[FailureLine]

    @property
    def elapsed_seconds(self) -> float:
        """Since it was created, until now or its end."""
        end = self.campaign.finished_at or self.now
        return (end - self.campaign.created_at).total_seconds()


def read(session: Session, campaign_id: str) -> CampaignProgress:
    """A campaign's progress.

    Raises:
        NotFound: there is no such campaign.
    """
    campaign = campaigns_service.show(session, campaigns_service.get(session, campaign_id))
    space = spaces_repository.space(session, campaign.space_id)
    phases = _phases(session, campaign)
    now = devices_repository.now(session)
    return CampaignProgress(
        campaign=campaign,
        space=space.name if space else campaign.space_id[:12],
        now=now,
        phases=phases,
        rate=_rate(session, campaign, phases, now),
        failures=[
            FailureCount(kind=row[0], attempts=row[1], last_at=row[2])
            for row in campaign_queries.attempt_failures(session, campaign_id)
        ],
        last_failures=_last_failures(session, campaign_id),
    )


def rate_of(ended: Sequence[tuple[datetime, int]], left: int, now: datetime) -> Rate | None:
    """The rate from jobs' ends and architectures, last first; None from fewer than two.

    The time since the last end counts once it is longer than a job usually takes: a campaign that
    has stopped does not keep its rate.
    """
    if len(ended) < 2:
        return None
    between = (ended[0][0] - ended[-1][0]).total_seconds()
    usual = between / (len(ended) - 1)
    silence = max(0.0, (now - ended[0][0]).total_seconds() - usual)
    done = sum(count for _, count in ended[:-1])
    if between + silence <= 0 or done == 0:
        return None
    per_second = done / (between + silence)
    return Rate(
        jobs=len(ended), architectures_per_minute=60 * per_second, seconds_left=left / per_second
    )


def phase_state(phase: str, current: str, campaign_state: str, jobs: Mapping[str, int]) -> str:
    """What has become of a phase."""
    if phase == current and campaign_state in ("failed", "cancelled"):
        return campaign_state
    if phase == current and campaign_state == "running":
        return "running"
    order = [*STAGES, "done"]
    is_over = order.index(phase) < order.index(current) or campaign_state == "done"
    return "done" if is_over and jobs else "queued"


def _phases(session: Session, campaign: CampaignView) -> list[PhaseProgress]:
    jobs: dict[str, Counter[str]] = {stage: Counter() for stage in STAGES}
    for (stage, state), count in jobs_repository.tally(session, campaign.id).items():
        jobs.setdefault(stage, Counter())[state] += count
    asked = campaigns_repository.architectures(session, campaign.id)
    measured = measurements_repository.count_by_stage(session, campaign.id)
    stages = STAGES if campaign.purpose == "predictor" else ("measuring",)
    return [
        PhaseProgress(
            phase=stage,
            state=phase_state(stage, campaign.phase, campaign.state, jobs[stage]),
            jobs=dict(jobs[stage]),
            jobs_total=jobs[stage].total(),
            jobs_ended=jobs[stage].total() - jobs[stage]["queued"] - jobs[stage]["leased"],
            architectures_total=asked.get(stage, 0),
            architectures_measured=measured.get(stage, 0),
        )
        for stage in stages
    ]


def _rate(
    session: Session, campaign: CampaignView, phases: Sequence[PhaseProgress], now: datetime
) -> Rate | None:
    running = next((one for one in phases if one.state == "running"), None)
    if running is None or running.phase == "training":
        return None
    rows = campaign_queries.last_done(session, campaign.id, running.phase, RATE_JOBS)
    left = campaigns_repository.architectures_left(session, campaign.id, running.phase)
    return rate_of([(row[0], row[1] or 0) for row in rows], left, now)


def _last_failures(session: Session, campaign_id: str) -> list[FailureLine]:
    names = tuple(FailureLine.model_fields)
    rows: Sequence[AnyRow] = campaign_queries.last_failures(session, campaign_id, _LAST_FAILURES)
    return [FailureLine.model_validate(dict(zip(names, row, strict=True))) for row in rows]
