"""When a predictor is trained again: new measurements, verifications above all, call for it."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy.orm import Session

from latency_service.devices import repository as devices_repository
from latency_service.devices.models import Target
from latency_service.events import JobEnded
from latency_service.jobs import repository as jobs_repository
from latency_service.jobs.models import Job
from latency_service.measurements import repository as measurements_repository
from latency_service.predictors import repository

#: Least number of new measurements that justify a training, and their least share of those trained
#: on: each training waits for more than the one before, so a long campaign does not train all the
#: time.
LEAST_NEW = 20
NEW_SHARE = 0.2


def is_due(*, trained_on: int, new: int, new_verified: int) -> bool:
    """Whether measurements that a predictor has not seen call for its next version.

    One of a delivered file does: it is where a pruning run has searched, and where the predictor's
    error matters.
    """
    return new_verified > 0 or new >= max(LEAST_NEW, NEW_SHARE * trained_on)


def after_measuring(
    session: Session,
    job: JobEnded,
    is_training_planned: Callable[[Session, str, Target], bool],
) -> None:
    """Queue a training when the job that has just ended makes one due. The caller's transaction
    stored its result.

    At most one waits for a space and target, until the device is still (`Settings.still_seconds`);
    none is queued while a campaign measures the same, since it trains itself; and none where nobody
    has asked for a predictor.

    Args:
        is_training_planned: whether a campaign will train for the space on the target.
    """
    target_id = measurements_repository.target_of_job(session, job.job_id)
    if job.space_id is None or target_id is None:
        return
    newest = repository.newest(session, job.space_id, target_id)
    if newest is None:
        return
    devices_repository.lock_device(session, newest.target.device_id)
    usable = measurements_repository.usable_ids(session, job.space_id, target_id)
    seen = set(newest.measurement_ids)
    new = [is_verified for found, is_verified in usable.items() if found not in seen]
    if not is_due(trained_on=len(seen), new=len(new), new_verified=sum(new)):
        return
    is_queued = jobs_repository.is_training_queued(session, job.space_id, newest.target.id)
    if not is_queued and not is_training_planned(session, job.space_id, newest.target):
        session.add(
            Job(
                kind="train",
                space_id=job.space_id,
                target_id=target_id,
                runtime=newest.target.runtime,
            )
        )
        session.flush()
