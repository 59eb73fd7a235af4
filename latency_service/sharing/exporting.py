"""Export: measurements of this database as files that others can import or analyse."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from latency_service.core.errors import NotFound
from latency_service.core.terminal.progress import Tell, silent
from latency_service.db.engine import Database
from latency_service.devices import service as devices_service
from latency_service.devices.models import Target
from latency_service.jobs.models import Attempt, Job
from latency_service.measurements.models import Measurement
from latency_service.sharing import parquet, repository
from latency_service.sharing.schemas import SharedMeasurement
from latency_service.spaces import service as spaces_service

#: Columns that are as in the table of measurements.
_PLAIN = set(SharedMeasurement.model_fields) - {"job_kind", "attempt_number", "calibration"}


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Rows of an export, or rows that an import has added."""

    spaces: int
    targets: int
    measurements: int


@dataclass
class _Needed:
    """What the exported measurements refer to."""

    spaces: set[str] = field(default_factory=set)
    targets: set[str] = field(default_factory=set)


def export_to(
    database: Database,
    folder: Path,
    *,
    space: str | None = None,
    device: str | None = None,
    tell: Tell = silent,
) -> Counts:
    """Write measurements with their raw rounds, spaces and targets to the new folder `folder`.

    It appears whole or not at all. Graphs are exported without weights, as the service has them;
    delivered models are not exported.

    Args:
        space: only measurements of the space with this id or prefix.
        device: only measurements of the device with this name.
        tell: is told of the measurements that are written.

    Raises:
        NotFound: no such space or device, or nothing to export.
        OSError: the folder exists, or cannot be written.
    """
    folder.mkdir()
    try:
        with tempfile.TemporaryDirectory(dir=folder.absolute().parent, prefix=".export-") as name:
            draft = Path(name) / "draft"
            draft.mkdir()
            counts = _write(database, draft, space, device, tell)
            parquet.write_sums(draft)
            os.replace(draft, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return counts


def _write(
    database: Database, folder: Path, space: str | None, device: str | None, tell: Tell
) -> Counts:
    with database.write() as session:
        source = repository.identity(session)
    needed = _Needed()
    with database.read() as session:
        batches = _measurements(session, space, device, needed, tell)
        measured = parquet.write(folder / parquet.MEASUREMENTS_FILE, parquet.MEASUREMENTS, batches)
        if measured == 0:
            raise NotFound(
                "There is no measurement to export.", "See: latency-service devices list"
            )
        spaces = _spaces(session, needed.spaces)
        targets = [_targets(session, needed.targets, source)]
        return Counts(
            measurements=measured,
            targets=parquet.write(folder / parquet.TARGETS_FILE, parquet.TARGETS, targets),
            spaces=parquet.write(folder / parquet.SPACES_FILE, parquet.SPACES, spaces),
        )


def _measurements(
    session: Session, space: str | None, device: str | None, needed: _Needed, tell: Tell
) -> Iterator[list[Mapping[str, Any]]]:
    space_id = None if space is None else spaces_service.get_space(session, space).id
    device_id = None if device is None else devices_service.get_device(session, device).id
    total = repository.count(session, space_id=space_id, device_id=device_id)
    done = 0
    after_id = ""
    while found := repository.measurements(
        session, space_id=space_id, device_id=device_id, after_id=after_id, limit=parquet.BATCH
    ):
        after_id = found[-1][0].id
        needed.spaces.update(row.space_id for row, _, _ in found)
        needed.targets.update(row.target_id for row, _, _ in found)
        yield [measurement_row(*entry) for entry in found]
        session.expunge_all()
        done += len(found)
        tell(done, total)


def measurement_row(row: Measurement, job: Job, attempt: Attempt) -> Mapping[str, Any]:
    """A measurement as an export holds it."""
    return {
        **{name: getattr(row, name) for name in _PLAIN},
        "job_kind": job.kind,
        "attempt_number": attempt.number,
        "calibration": parquet.as_text(row.calibration),
    }


def _spaces(session: Session, ids: set[str]) -> Iterator[list[Mapping[str, Any]]]:
    for space_id in sorted(ids):
        for row in repository.spaces(session, [space_id]):
            yield [{"id": row.id, "is_probe": row.is_probe, "blob": row.blob}]
        session.expunge_all()


def _targets(session: Session, ids: set[str], source: str) -> list[Mapping[str, Any]]:
    return [_target(row, source) for row in repository.targets(session, ids)]


def _target(row: Target, source: str) -> Mapping[str, Any]:
    same = ("id", "device_id", "fingerprint", "canaries", "canary_ms", "generation", "is_current")
    return {
        **{name: getattr(row, name) for name in (*same, "created_at")},
        "device_name": row.device.name,
        "source": row.device.imported_from or source,
        **{name: parquet.as_text(getattr(row, name)) for name in ("runtime", "facts", "context")},
    }
