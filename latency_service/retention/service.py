"""Deletion of a device's measurements and of everything made from them."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from sqlalchemy.orm import Session

from latency_service.campaigns import repository as campaigns_repository
from latency_service.core.errors import BadRequest, Conflict
from latency_service.devices import repository as devices_repository
from latency_service.devices import service as devices_service
from latency_service.jobs import repository as jobs_repository
from latency_service.jobs import service as jobs_service
from latency_service.lattices import repository as lattices_repository
from latency_service.measurements import repository as measurements_repository
from latency_service.predictors import repository as predictors_repository
from latency_service.predictors import retraining
from latency_service.retention import repository
from latency_service.retention.schemas import Forgotten
from latency_service.runs import repository as runs_repository

log = structlog.get_logger(__name__)


def forget(session: Session, name: str, confirm: str | None) -> Forgotten:
    """Delete the device's measurements, and with them the predictors and lattices made from them.

    The device, its agents and targets stay, and so do the records of its campaigns, jobs and
    pruning runs. Waiting and running trainings are cancelled. Predictors of other devices that have
    learned from these measurements are trained again.

    Raises:
        NotFound: no such device.
        BadRequest: `confirm` does not repeat its name.
        Conflict: a campaign is running on it.
    """
    device = devices_service.get_device(session, name)
    _check_confirmed(name, confirm)
    targets = [target.id for target in devices_repository.targets_of(session, [device.id])]
    _drop_trainings(session, targets)
    devices_repository.lock_device(session, device.id)
    _check_idle(session, name)
    runs_repository.forget_predictors(session, targets)
    repository.forget_lattices(session, targets)
    devices_repository.forget_comparisons(session, targets)
    gone = Forgotten(
        device=name,
        # while it is still known what was measured
        retrained=retraining.after_forgetting(session, targets),
        predictors=predictors_repository.delete_of(session, targets),
        measurements=measurements_repository.delete_of(session, targets),
        lattices=lattices_repository.delete_of(session, targets),
    )
    log.warning("measurements_forgotten", **gone.model_dump())
    return gone


def _check_confirmed(name: str, confirm: str | None) -> None:
    if confirm != name:
        raise BadRequest(
            f"Forgetting deletes every measurement, predictor and lattice of {name!r} for "
            "good; it was not confirmed.",
            f"Repeat the name: ?confirm={name}, or run: latency-service devices forget {name} "
            "--yes",
        )


def _drop_trainings(session: Session, target_ids: Sequence[str]) -> None:
    for job_id in jobs_repository.open_trainings(session, target_ids):
        jobs_repository.lock_job(session, job_id)
        jobs_service.cancel(session, job_id, "The device's measurements were deleted.")


def _check_idle(session: Session, name: str) -> None:
    running = campaigns_repository.campaigns(
        session, device=name, space_id=None, state="running", limit=1, offset=0
    )
    if running:
        raise Conflict(
            f"The campaign {running[0].id} is running on {name!r}.",
            f"Wait for it, or run: latency-service campaigns cancel {running[0].id}",
        )
