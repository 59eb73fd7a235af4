"""What a training job learns from, read from the database."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy.orm import Session

from latency_service.core.arrays import Floats
from latency_service.db.engine import Database
from latency_service.devices import repository as devices_repository
from latency_service.jobs.facts import JobSpec
from latency_service.lattices import repository as lattices_repository
from latency_service.lattices.sampling import group_lattice
from latency_service.lattices.schemas import Lattice
from latency_service.measurements import repository as measurements_repository
from latency_service.measurements.models import Measurement
from latency_service.measurements.statistics import at_one_reference
from latency_service.spaces import service as spaces_service
from latency_service.training.models.transfer import LEAST_KNOWN, KnownTarget
from latency_service.training.pipeline import TrainingSet

#: Maximum number of other targets that training learns from, and of measurements of each, the
#: newest ones.
MOST_KNOWN = 6
MOST_OF_ONE = 300


def gather(database: Database, job: JobSpec) -> TrainingSet:
    """Everything that a training job learns from: the measurements of its space on its target, from
    all campaigns.

    Raises:
        ValueError: there are none.
    """
    assert job.space_id is not None
    assert job.target_id is not None
    with database.read() as session:
        space = spaces_service.load(session, job.space_id)
        target = devices_repository.target(session, job.target_id)
        rows = measurements_repository.for_training(session, job.space_id, job.target_id)
        known = _known(session, job.space_id, job.target_id)
        lattice = _lattice_of(session, job, job.target_id)
    if not rows:
        raise ValueError("No measurement to train on. Create the campaign again.")
    return TrainingSet(
        space=space,
        fingerprint=target.fingerprint,
        **_columns(rows),
        lattice=group_lattice(space, lattice),
        seed=job.seed,
        known=known,
    )


def _columns(rows: Sequence[Measurement]) -> dict[str, Any]:
    """Fields of a training set that hold one value for each measurement."""
    half_width = [(row.upper_ms - row.lower_ms) / (2 * row.latency_ms) for row in rows]
    return {
        "measurement_ids": [row.id for row in rows],
        "widths": np.array([row.widths for row in rows], dtype=np.int64),
        "latency_ms": _latencies(rows),
        "half_width": np.array(half_width),
    }


def _latencies(rows: Sequence[Measurement]) -> Floats:
    """Latencies of the measurements in ms [N], all at one quiet latency of the reference."""
    return at_one_reference(rows)


def _lattice_of(session: Session, job: JobSpec, target_id: str) -> Lattice:
    """The newest lattice of the target, or the one that the job names; empty without either."""
    stored = lattices_repository.newest(session, target_id)
    if stored is None and job.lattice_id is not None:
        stored = lattices_repository.lattice(session, job.lattice_id)
    return Lattice(kinds=[]) if stored is None else Lattice.model_validate(stored.lattice)


def _known(session: Session, space_id: str, target_id: str) -> list[KnownTarget]:
    """Measurements of the space on other targets, including this one before its runtime changed."""
    targets = measurements_repository.targets_of(
        session, space_id, least=LEAST_KNOWN, most=MOST_KNOWN
    )
    return [_known_target(session, space_id, other) for other in targets if other != target_id]


def _known_target(session: Session, space_id: str, target_id: str) -> KnownTarget:
    rows = measurements_repository.for_training(session, space_id, target_id)[-MOST_OF_ONE:]
    return KnownTarget(
        widths=np.array([row.widths for row in rows]),
        latency_ms=_latencies(rows),
        target_id=target_id,
    )
