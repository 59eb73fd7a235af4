"""When a predictor is trained again: new measurements, verifications above all, call for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlalchemy.orm import Session

from latency_service.devices import repository as devices_repository
from latency_service.devices.models import Target
from latency_service.events import JobEnded
from latency_service.jobs import repository as jobs_repository
from latency_service.jobs.models import Job
from latency_service.measurements import repository as measurements_repository
from latency_service.predictors import repository
from latency_service.predictors.models import StoredPredictor

#: Minimum number of new measurements that justify a training, and their minimum share of the
#: measurements of the last training: each training waits for more than the one before, so a long
#: campaign does not train all the time.
LEAST_NEW = 20
NEW_SHARE = 0.2


def is_due(*, trained_on: int, new: int, new_verified: int) -> bool:
    """Whether measurements that a predictor has not seen call for its next version.

    One measurement of a delivered file is enough: it lies where a pruning run has searched, and
    where the predictor's error matters.
    """
    return new_verified > 0 or new >= max(LEAST_NEW, NEW_SHARE * trained_on)


def after_measuring(
    session: Session,
    job: JobEnded,
    is_training_planned: Callable[[Session, str, Target], bool],
) -> None:
    """Queue a training when the measurements of the job that has just ended make one due.

    Call it in the transaction that stored the result. At most one training waits for a space and
    target, until the device is still (`Settings.still_seconds`). None is queued while a campaign
    measures the same space and target, since that trains itself, or before the first predictor.

    Args:
        is_training_planned: whether a campaign will train for the space on the target.
    """
    if job.space_id is None or job.target_id is None:
        return
    if not repository.has_predictor(session, job.space_id, job.target_id):
        return
    newest = repository.newest(session, job.space_id, job.target_id)
    assert newest is not None
    devices_repository.lock_device(session, newest.target.device_id)
    if _has_due_measurements(session, newest) and not (
        jobs_repository.has_training(session, newest.space_id, job.target_id)
        or is_training_planned(session, newest.space_id, newest.target)
    ):
        _queue_training(session, newest.space_id, newest.target)


def after_importing(session: Session, space_id: str, target: Target, *, has_new: bool) -> bool:
    """Queue a training for a space on a target unless what is measured there is trained on already,
    or will be; whether it was queued.

    Args:
        has_new: whether a training that runs may have begun without some of the measurements.
    """
    devices_repository.lock_device(session, target.device_id)
    states = ("queued",) if has_new else ("queued", "leased")
    if jobs_repository.has_training(session, space_id, target.id, states):
        return False
    newest = repository.newest(session, space_id, target.id)
    seen = set() if newest is None else set(newest.measurement_ids)
    if seen >= measurements_repository.usable_ids(session, space_id, target.id).keys():
        return False
    _queue_training(session, space_id, target)
    return True


def after_forgetting(session: Session, target_ids: Sequence[str]) -> int:
    """Queue a training for each predictor of another target that has learned from these; how many.

    Call it before their measurements are deleted. A training that waits already serves.
    """
    gone = set(target_ids)
    count = 0
    for newest in repository.newest_beside(session, target_ids):
        if gone.isdisjoint(newest.sidecar.get("transferred_from", ())):
            continue
        count += 1
        if not jobs_repository.has_training(session, newest.space_id, newest.target_id):
            _queue_training(session, newest.space_id, newest.target)
    return count


def _has_due_measurements(session: Session, newest: StoredPredictor) -> bool:
    usable = measurements_repository.usable_ids(session, newest.space_id, newest.target_id)
    seen = set(newest.measurement_ids)
    new = [is_verified for found, is_verified in usable.items() if found not in seen]
    return is_due(trained_on=len(seen), new=len(new), new_verified=sum(new))


def _queue_training(session: Session, space_id: str, target: Target) -> None:
    session.add(Job(kind="train", space_id=space_id, target_id=target.id, runtime=target.runtime))
    session.flush()
