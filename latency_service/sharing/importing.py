"""Import: what another database's agents have measured, beside what this one's have.

Rows keep their ids (`known`). So an import that is repeated adds nothing, measurements that come
by two ways are stored once, and each says where it is from. A target of another database is never
one of this database's: its device is a device of its own, which no agent can join.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import structlog
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from latency_service.core.errors import Conflict
from latency_service.core.terminal.progress import Tell, silent
from latency_service.db.engine import Database
from latency_service.devices.models import Agent, Device, Target
from latency_service.jobs.models import Attempt, Job
from latency_service.measurements.models import Measurement
from latency_service.predictors import retraining
from latency_service.sharing import known, parquet, repository
from latency_service.sharing.exporting import Counts
from latency_service.sharing.parquet import BadExport
from latency_service.sharing.schemas import SharedMeasurement, SharedSpace, SharedTarget
from latency_service.spaces import service as spaces_service
from latency_service.spaces.errors import SpaceError, WidthsError
from latency_service.spaces.models import Space
from latency_service.spaces.slicing import SearchSpace

log = structlog.get_logger(__name__)

#: Fewest measurements of a space on a target that a predictor is trained on.
LEAST_TO_TRAIN = 10
#: State of the agent that stands for the unknown ones of an imported device.
IMPORTED = "imported"
#: Longest name of a device.
_NAME_LENGTH = 80


@dataclass(frozen=True, kw_only=True)
class Imported:
    """What an import has added."""

    added: Counts
    #: Names of the devices that the export was about, as they are called here.
    devices: list[str]
    #: Trainings that were queued.
    trainings: int


def import_from(
    database: Database, folder: Path, *, train: bool = False, tell: Tell = silent
) -> Imported:
    """Add an export's measurements to this database.

    Everything is checked before anything is stored. Measurements are stored in small transactions,
    since repeating an import that was interrupted completes it.

    Args:
        train: queue a training for each space and imported target with enough measurements.
        tell: is told of the measurements that are stored.

    Raises:
        BadExport: a file is missing, damaged or not valid, or the files do not fit each other.
        Conflict: this database has another row under the same id.
    """
    parquet.check_sums(folder)
    targets = _checked_targets(folder)
    spaces = _checked_spaces(folder)
    _check_measurements(folder, spaces, {row.id: row for row in targets})
    described = [_described(folder, space, is_probe) for space, is_probe in spaces.values()]
    _check_known(database, folder, targets)
    try:
        return _store(database, folder, described, targets, train, tell)
    except IntegrityError as error:
        raise _bad(folder, f"its ids contradict what is stored here ({error.orig})") from error


def _store(
    database: Database,
    folder: Path,
    spaces: Sequence[Space],
    targets: Sequence[SharedTarget],
    train: bool,
    tell: Tell,
) -> Imported:
    with database.write() as session:
        new_spaces = sum(spaces_service.store(session, row)[1] for row in spaces)
        devices = _store_devices(session, targets)
        new_targets = _store_targets(session, targets)
    by_id = {target.id: target for target in targets}
    new: list[tuple[str, str]] = []
    total = parquet.count(folder / parquet.MEASUREMENTS_FILE)
    done = 0
    for rows in _measurements(folder):
        with database.write() as session:
            new += _store_measurements(session, rows, by_id)
        done += len(rows)
        tell(done, total)
    added = Counts(spaces=new_spaces, targets=new_targets, measurements=len(new))
    trainings = _queue_trainings(database, by_id, set(new)) if train else 0
    log.info("imported", folder=str(folder), measurements=len(new), trainings=trainings)
    return Imported(added=added, devices=devices, trainings=trainings)


def _check_known(database: Database, folder: Path, targets: Sequence[SharedTarget]) -> None:
    by_id = {target.id: target for target in targets}
    with database.read() as session:
        known.check_targets(session, targets)
        for rows in _measurements(folder):
            known.check_measurements(session, rows, by_id)
            session.expunge_all()


def _measurements(folder: Path) -> Iterator[list[SharedMeasurement]]:
    return parquet.read(folder / parquet.MEASUREMENTS_FILE, parquet.MEASUREMENTS, SharedMeasurement)


def _checked_targets(folder: Path) -> list[SharedTarget]:
    batches = parquet.read(folder / parquet.TARGETS_FILE, parquet.TARGETS, SharedTarget)
    found = [row for batch in batches for row in batch]
    for row in found:
        if not row.is_consistent():
            raise _bad(folder, f"the fingerprint of target {row.id} is not that of its facts")
    return found


def _checked_spaces(folder: Path) -> dict[str, tuple[SearchSpace, bool]]:
    """Each space by its id, and whether it is a probe."""
    batches = parquet.read(folder / parquet.SPACES_FILE, parquet.SPACES, SharedSpace)
    return {row.id: (_parsed(folder, row), row.is_probe) for batch in batches for row in batch}


def _parsed(folder: Path, row: SharedSpace) -> SearchSpace:
    if hashlib.sha256(row.blob).hexdigest() != row.id:
        raise _bad(folder, f"space {row.id[:12]} does not have the hash that is its id")
    try:
        return SearchSpace.from_bytes(row.blob)
    except SpaceError as error:
        raise _bad(folder, f"space {row.id[:12]} is not valid: {error}") from error


def _described(folder: Path, space: SearchSpace, is_probe: bool) -> Space:
    try:
        return spaces_service.describe(space, is_probe=is_probe)
    except SpaceError as error:
        raise _bad(folder, f"space {space.id[:12]} is not valid: {error}") from error


def _check_measurements(
    folder: Path,
    spaces: Mapping[str, tuple[SearchSpace, bool]],
    targets: Mapping[str, SharedTarget],
) -> None:
    seen: set[str | tuple[str, int]] = set()
    origins: dict[str, tuple[object, ...]] = {}
    for rows in _measurements(folder):
        for row in rows:
            if row.id in seen or (row.attempt_id, row.position) in seen:
                raise _bad(folder, f"measurement {row.id} is there twice")
            seen |= {row.id, (row.attempt_id, row.position)}
            if row.space_id not in spaces or row.target_id not in targets:
                raise _bad(folder, f"the space or target of measurement {row.id} is missing")
            _check_widths(folder, row, spaces[row.space_id][0])
            _check_origin(folder, row, targets[row.target_id].device_id, origins)


def _check_widths(folder: Path, row: SharedMeasurement, space: SearchSpace) -> None:
    try:
        if row.widths is not None:
            space.check_widths(row.widths)
    except WidthsError as error:
        raise _bad(folder, f"measurement {row.id}: {error}") from error


def _check_origin(
    folder: Path, row: SharedMeasurement, device_id: str, origins: dict[str, tuple[object, ...]]
) -> None:
    """Measurements of one job are of one device and space, and those of one attempt of one job."""
    job = (row.job_kind, device_id, row.space_id, row.model_sha256)
    attempt = (row.job_id, row.attempt_number)
    for key, origin in ((f"job {row.job_id}", job), (f"attempt {row.attempt_id}", attempt)):
        if origins.setdefault(key, origin) != origin:
            raise _bad(folder, f"measurement {row.id} does not fit the others of its {key}")


def _store_devices(session: Session, targets: Sequence[SharedTarget]) -> list[str]:
    """Store the devices of the targets that are not known; the names of all of them here."""
    for target in targets:
        if session.get(Device, target.device_id) is None:
            _store_device(session, target)
    devices = {target.device_id for target in targets}
    return sorted(session.get_one(Device, device_id).name for device_id in devices)


def _store_device(session: Session, target: SharedTarget) -> None:
    device = Device(
        id=target.device_id,
        name=_free_name(session, target),
        created_at=target.created_at,
        imported_from=target.source,
    )
    session.add(device)
    session.flush()
    session.add(
        Agent(
            id=device.id,
            kind="device",
            device_id=device.id,
            agent_version="",
            runtime_version="",
            max_opset=0,
            providers=[],
            facts={},
            state=IMPORTED,
            last_seen_at=target.created_at,
        )
    )
    session.flush()


def _free_name(session: Session, target: SharedTarget) -> str:
    """The device's name with the beginning of its database's id, and of its own if need be."""
    ending = f".{target.source[-8:]}"
    name = target.device_name.removesuffix(ending)
    taken = repository.device_names(session)
    for tail in (ending, f"{ending}.{target.device_id[-8:]}"):
        full = name[: _NAME_LENGTH - len(tail)] + tail
        if full not in taken:
            return full
    raise Conflict(
        f"The name {full!r} of an imported device is taken.",
        f"Forget it first: latency-service devices forget {full} --yes",
    )


def _store_targets(session: Session, targets: Sequence[SharedTarget]) -> int:
    stored = repository.known_ids(session, Target, [target.id for target in targets])
    session.add_all(_target(target) for target in targets if target.id not in stored)
    session.flush()
    for target in targets:
        device = session.get_one(Device, target.device_id)
        if target.is_current and device.imported_from is not None:
            repository.set_current(session, device.id, target.runtime.key, target.id)
    return len(targets) - len(stored)


def _target(target: SharedTarget) -> Target:
    names = ("id", "device_id", "fingerprint", "facts", "context", "canaries", "canary_ms")
    return Target(
        **{name: getattr(target, name) for name in (*names, "generation", "created_at")},
        runtime_key=target.runtime.key,
        runtime=target.runtime.model_dump(),
        is_current=False,
    )


def _store_measurements(
    session: Session, rows: Sequence[SharedMeasurement], targets: Mapping[str, SharedTarget]
) -> list[tuple[str, str]]:
    """Store those that are missing; the space and target of each."""
    stored = repository.known_ids(session, Measurement, [row.id for row in rows])
    new = [row for row in rows if row.id not in stored]
    _store_jobs(session, new, targets)
    session.add_all(_measurement(row) for row in new)
    session.flush()
    return [(row.space_id, row.target_id) for row in new]


def _store_jobs(
    session: Session, rows: Sequence[SharedMeasurement], targets: Mapping[str, SharedTarget]
) -> None:
    """Store the jobs and attempts that the measurements came from, as far as they are missing."""
    jobs = {row.job_id: row for row in rows}
    for job_id in jobs.keys() - repository.known_ids(session, Job, jobs):
        session.add(_job(jobs[job_id], targets[jobs[job_id].target_id]))
    session.flush()
    attempts = {row.attempt_id: row for row in rows}
    for attempt_id in attempts.keys() - repository.known_ids(session, Attempt, attempts):
        row = attempts[attempt_id]
        session.add(_attempt(row, targets[row.target_id].device_id))
    session.flush()


def _job(row: SharedMeasurement, target: SharedTarget) -> Job:
    return Job(
        id=row.job_id,
        kind=row.job_kind,
        state="done",
        device_id=target.device_id,
        space_id=row.space_id,
        model_sha256=row.model_sha256,
        provider=target.runtime.provider,
        runtime=target.runtime.model_dump(),
        attempts_used=row.attempt_number,
        created_at=row.created_at,
        finished_at=row.created_at,
    )


def _attempt(row: SharedMeasurement, device_id: str) -> Attempt:
    return Attempt(
        id=row.attempt_id,
        job_id=row.job_id,
        # an imported device has one agent, with its own id
        agent_id=device_id,
        number=row.attempt_number,
        state="done" if row.counted else "superseded",
        leased_at=row.created_at,
        expires_at=row.created_at,
        finished_at=row.created_at,
    )


def _measurement(row: SharedMeasurement) -> Measurement:
    left_out = {"job_kind", "attempt_number", "calibration", "rounds"}
    return Measurement(
        **{name: getattr(row, name) for name in SharedMeasurement.model_fields.keys() - left_out},
        campaign_id=None,
        calibration=row.calibration.model_dump(),
        rounds=[one.model_dump() for one in row.rounds],
    )


def _queue_trainings(
    database: Database, targets: Mapping[str, SharedTarget], new: Set[tuple[str, str]]
) -> int:
    """Queue the trainings that are due; `new` holds the space and target of each measurement that
    was added.
    """
    count = 0
    with database.write() as session:
        for space_id, target_id in repository.trainable(session, targets, LEAST_TO_TRAIN):
            target = session.get_one(Target, target_id)
            has_new = (space_id, target_id) in new
            count += retraining.after_importing(session, space_id, target, has_new=has_new)
    return count


def _bad(folder: Path, why: str) -> BadExport:
    return BadExport(
        f"{folder} cannot be imported: {why}.",
        "The files were changed or mixed: copy the folder again from where it was exported.",
    )
