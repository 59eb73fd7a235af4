"""Where jobs stand in the queue of their device, and when they are expected to end."""

from __future__ import annotations

from statistics import median

from sqlalchemy.orm import Session

from latency_service.jobs import places
from latency_service.jobs.models import Job
from latency_service.jobs.schemas import QueuePlace

#: Number of a device's newest attempts that say how long the next one takes.
RECENT = 20


def place_of(session: Session, job: Job) -> QueuePlace | None:
    """Place of a job that waits for its device; None for any other."""
    if job.state != "queued" or job.device_id is None:
        return None
    ahead = places.count_ahead(session, job)
    return _place(session, job.device_id, ahead, 1)


def place_of_campaign(session: Session, campaign_id: str) -> QueuePlace | None:
    """Place of a campaign's next job, and the time until the last that is queued has ended; None
    when none waits for the device.
    """
    following = places.next_queued(session, campaign_id)
    if following is None or following.device_id is None:
        return None
    ahead = places.count_ahead(session, following)
    own = places.count_queued(session, campaign_id)
    return _place(session, following.device_id, ahead, own)


def _place(session: Session, device_id: str, ahead: int, own: int) -> QueuePlace:
    seconds = places.recent_seconds(session, device_id, RECENT)
    expected = (ahead + own) * median(seconds) if seconds else None
    return QueuePlace(jobs_ahead=ahead, expected_seconds=expected)
