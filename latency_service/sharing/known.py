"""What an export says of rows that this database has already: the same, or the export was changed.

Rows keep their ids on their way, so a row that is known must have the content that is stored, and a
new row must not become part of another's job, attempt or device.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy.orm import Session

from latency_service.core.errors import Conflict
from latency_service.devices.models import Agent, Device, Target
from latency_service.jobs.models import Attempt, Job
from latency_service.sharing import repository
from latency_service.sharing.exporting import measurement_row
from latency_service.sharing.schemas import SharedMeasurement, SharedTarget

#: Retention drops rounds, here or where the export is from.
_ROUNDS = {"rounds", "rounds_kept"}
#: What does not change once a target is there; its facts and its runtime are in the fingerprint. A
#: slow device may read other canaries when it calibrates anew.
_TARGET = ("device_id", "fingerprint", "generation", "created_at")


def check_targets(session: Session, targets: Sequence[SharedTarget]) -> None:
    """Return if targets and devices that are known are those of the export.

    Raises:
        Conflict: one is another (code `another_target` or `another_device`).
    """
    own = repository.identity_if_known(session)
    for target in targets:
        row = session.get(Target, target.id)
        if row is not None:
            here = {name: getattr(row, name) for name in _TARGET}
            _check_same("target", target.id, here, target.model_dump(include=set(_TARGET)))
        device = session.get(Device, target.device_id)
        source = None if device is None else device.imported_from or own
        # a database that has exported nothing yet has no name
        if source is not None:
            _check_same("device", target.device_id, {"source": source}, {"source": target.source})


def check_measurements(
    session: Session, rows: Sequence[SharedMeasurement], targets: Mapping[str, SharedTarget]
) -> None:
    """Return if those measurements that are known have the content that is stored, and the others
    come from jobs and attempts that are not known, or have ended and are theirs.

    Raises:
        Conflict: one is another (code `another_measurement`, `another_job` or `another_attempt`).
    """
    stored = {
        found[0].id: SharedMeasurement.model_validate(measurement_row(*found))
        for found in repository.measurements_of(session, [row.id for row in rows])
    }
    for row in rows:
        if row.id in stored:
            _check_content(stored[row.id], row)
    new = [row for row in rows if row.id not in stored]
    _check_jobs(session, new, targets)
    _check_attempts(session, new, targets)


def _check_content(stored: SharedMeasurement, row: SharedMeasurement) -> None:
    left_out = set() if stored.rounds_kept and row.rounds_kept else _ROUNDS
    here, there = (one.model_dump(exclude=left_out) for one in (stored, row))
    _check_same("measurement", row.id, here, there)


def _check_jobs(
    session: Session, rows: Sequence[SharedMeasurement], targets: Mapping[str, SharedTarget]
) -> None:
    jobs = repository.by_id(session, Job, {row.job_id for row in rows})
    for row in rows:
        job = jobs.get(row.job_id)
        if job is not None:
            names = ("kind", "device_id", "space_id", "model_sha256", "state")
            device_id = targets[row.target_id].device_id
            expected = (row.job_kind, device_id, row.space_id, row.model_sha256, "done")
            here = {name: getattr(job, name) for name in names}
            _check_same("job", job.id, here, dict(zip(names, expected, strict=True)))


def _check_attempts(
    session: Session, rows: Sequence[SharedMeasurement], targets: Mapping[str, SharedTarget]
) -> None:
    attempts = repository.by_id(session, Attempt, {row.attempt_id for row in rows})
    for row in rows:
        attempt = attempts.get(row.attempt_id)
        if attempt is not None:
            here = {
                "job_id": attempt.job_id,
                "number": attempt.number,
                "device_id": session.get_one(Agent, attempt.agent_id).device_id,
                "is_open": attempt.state == "open",
            }
            device_id = targets[row.target_id].device_id
            expected = (row.job_id, row.attempt_number, device_id, False)
            _check_same("attempt", attempt.id, here, dict(zip(here, expected, strict=True)))


def _check_same(
    what: str, row_id: str, here: Mapping[str, object], there: Mapping[str, object]
) -> None:
    different = [name for name, value in here.items() if there[name] != value]
    if different:
        raise Conflict(
            f"The {what} {row_id} is another one in this database: it differs in "
            f"{', '.join(different)}.",
            "The export is not from an installation of this program, or was changed: do not use "
            "it.",
            code=f"another_{what}",
        )
