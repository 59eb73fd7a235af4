"""The trainer: a process that claims training jobs from the database and publishes predictors.

It claims jobs through the same function as the HTTP routes of the agents and holds the same leases.
Any number of trainers may run, and any of them may be killed at any moment: another attempt takes
over, and exactly one predictor results.
"""

from __future__ import annotations

import contextvars
import math
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import structlog
from structlog.contextvars import bound_contextvars

from latency_service import __version__
from latency_service.core import locks
from latency_service.core.arrays import Floats
from latency_service.core.errors import ServiceError
from latency_service.core.files import write_whole
from latency_service.core.text import MAX_MESSAGE, plain
from latency_service.db.engine import Database
from latency_service.db.migrate import NotMigrated, check_migrated
from latency_service.devices import repository as devices_repository
from latency_service.devices.models import Agent
from latency_service.jobs import claims
from latency_service.jobs import repository as jobs_repository
from latency_service.jobs import service as jobs_service
from latency_service.jobs.facts import JobSpec
from latency_service.jobs.schemas import Failure, FailureKind
from latency_service.jobs.sweeping import Sweeper
from latency_service.lattices import repository as lattices_repository
from latency_service.lattices.sampling import group_lattice
from latency_service.lattices.schemas import Lattice
from latency_service.measurements import repository as measurements_repository
from latency_service.measurements.models import Measurement
from latency_service.measurements.statistics import at_one_reference
from latency_service.predictors import service as predictors_service
from latency_service.settings import Settings
from latency_service.spaces import service as spaces_service
from latency_service.web.logging import configure_logging
from latency_service.wiring import connect_handlers

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from latency_service.training.pipeline import KnownTarget, Trained, TrainingSet

#: Maximum number of other targets that training learns from, and of measurements of each, the
#: newest ones.
MOST_KNOWN = 6
MOST_OF_ONE = 300
#: Models that learn from other targets too.
TRANSFERRED = frozenset({"lpnet-transfer"})

log = structlog.get_logger(__name__)


class AttemptLost(Exception):
    """The lease was lost or the job was cancelled during the training; the outcome is dropped."""


@dataclass(frozen=True, kw_only=True)
class _Claimed:
    job_id: str
    attempt_id: str


def run_trainer(settings: Settings, stop: threading.Event) -> int:
    """Train until `stop` is set; returns the exit code, 1 when the database is not migrated."""
    configure_logging(as_json=settings.log_json)
    connect_handlers()
    database = Database(settings.url, pool_size=2)
    try:
        check_migrated(database.engine)
        with _identity(database, settings) as agent_id:
            _loop(database, settings, agent_id, stop)
    except NotMigrated as error:
        log.error("not_ready", message=error.message, cure=error.cure)
        return 1
    finally:
        database.dispose()
    return 0


def _loop(database: Database, settings: Settings, agent_id: str, stop: threading.Event) -> None:
    heard_at = -math.inf
    sweep = Sweeper(database, settings).sweep
    while not stop.is_set():
        if time.monotonic() - heard_at >= settings.heartbeat_seconds:
            heard_at = time.monotonic()
            _touch(database, agent_id)
        if not train_next(database, settings, agent_id, stop, sweep):
            stop.wait(settings.poll_seconds)


def train_next(
    database: Database,
    settings: Settings,
    agent_id: str,
    stop: threading.Event,
    sweep: claims.Sweep | None = None,
) -> bool:
    """Claim one training job and carry it out; False when none waits. Leases that have run out are
    ended by `sweep` on the way.
    """
    found = claims.claim_next(database, settings, agent_id, sweep)
    if found is None:
        return False
    job = found.spec
    claimed = _Claimed(job_id=job.id, attempt_id=found.attempt_id)
    with bound_contextvars(job=job.id, attempt=claimed.attempt_id):
        log.info("training")
        _carry_out(database, settings, agent_id, job, claimed, stop)
    return True


def _carry_out(
    database: Database,
    settings: Settings,
    agent_id: str,
    job: JobSpec,
    claimed: _Claimed,
    stop: threading.Event,
) -> None:
    """Train and publish, or tell why not."""
    try:
        with _renewed(database, settings, agent_id, claimed.attempt_id) as lost:
            data = gather(database, job)
            trained = _train(data, lost, stop)
        publish(database, claimed, trained, data.measurement_ids)
    except AttemptLost:
        _abandon(database, settings, claimed)
    except ValueError as error:
        _give_up(database, settings, agent_id, claimed, _failure("model_invalid", str(error)))
    except Exception as error:
        log.exception("training_failed")
        message = f"{type(error).__name__}: {error}"
        _give_up(database, settings, agent_id, claimed, _failure("internal", message))


def _abandon(database: Database, settings: Settings, claimed: _Claimed) -> None:
    """Drop the attempt. When it is this trainer that stops, another need not wait for the lease to
    end.
    """
    log.warning("training_dropped")
    with database.write() as session:
        jobs_service.abandon(session, settings, [claimed.attempt_id])


def _failure(kind: FailureKind, message: str) -> Failure:
    return Failure(kind=kind, message=plain(message, MAX_MESSAGE))


def gather(database: Database, job: JobSpec) -> TrainingSet:
    """Everything that a training job learns from: the measurements of its space on its target, from
    all campaigns.

    Raises:
        ValueError: there are none.
    """
    # loads torch, which only the trainer's process needs
    from latency_service.training.pipeline import TrainingSet

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
    from latency_service.training.models.transfer import LEAST_KNOWN

    targets = measurements_repository.targets_of(
        session, space_id, least=LEAST_KNOWN, most=MOST_KNOWN
    )
    return [_known_target(session, space_id, other) for other in targets if other != target_id]


def _known_target(session: Session, space_id: str, target_id: str) -> KnownTarget:
    from latency_service.training.models.transfer import KnownTarget

    rows = measurements_repository.for_training(session, space_id, target_id)[-MOST_OF_ONE:]
    return KnownTarget(
        widths=np.array([row.widths for row in rows]),
        latency_ms=_latencies(rows),
        target_id=target_id,
    )


def publish(
    database: Database, claimed: _Claimed, trained: Trained, measurement_ids: Sequence[str]
) -> None:
    """Store the predictor with the ids of its measurements, and end its job, in one transaction.

    Raises:
        AttemptLost: the attempt is no longer open; nothing is stored.
    """
    with database.write() as session:
        held = jobs_repository.lock_attempt(session, claimed.attempt_id)
        if held is None or held.attempt.state != "open":
            raise AttemptLost
        row = predictors_service.publish(
            session, held.job, trained.artifact, trained.sidecar, measurement_ids, trained.held_out
        )
        jobs_service.complete(session, held, "done")
        log.info("published", predictor=row.id, version=row.version, mape=trained.sidecar.mape)


def _train(data: TrainingSet, lost: threading.Event, stop: threading.Event) -> Trained:
    from latency_service.training.pipeline import train

    def over() -> bool:
        return lost.is_set() or stop.is_set()

    def progress(phase: str, share: float) -> None:
        if over():
            raise AttemptLost

    with locks.turn(over):
        return with_sources(train(data, progress=progress), data)


def with_sources(trained: Trained, data: TrainingSet) -> Trained:
    """A predictor whose sidecar names the other targets that it has learned from."""
    if trained.sidecar.model not in TRANSFERRED:
        return trained
    sources = sorted(known.target_id for known in data.known)
    sidecar = trained.sidecar.model_copy(update={"transferred_from": sources})
    return replace(trained, sidecar=sidecar)


def _touch(database: Database, agent_id: str) -> None:
    with database.write() as session:
        devices_repository.touch(session, agent_id)


def _give_up(
    database: Database, settings: Settings, agent_id: str, claimed: _Claimed, failure: Failure
) -> None:
    with database.write() as session:
        jobs_service.fail(session, settings, agent_id, claimed.attempt_id, failure)


@contextmanager
def _renewed(
    database: Database, settings: Settings, agent_id: str, attempt_id: str
) -> Iterator[threading.Event]:
    """Renew the lease while the block runs; the event is set when it was lost."""
    lost = threading.Event()
    done = threading.Event()

    def keep() -> None:
        while not (done.wait(settings.renew_seconds) or lost.is_set()):
            if not _renew(database, settings, agent_id, attempt_id):
                lost.set()

    # its log lines name the same job
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(keep,), name="lease", daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        done.set()
        thread.join()


def _renew(database: Database, settings: Settings, agent_id: str, attempt_id: str) -> bool:
    """Renew the lease once; False when it is lost."""
    try:
        with database.write() as session:
            jobs_service.renew(session, settings, agent_id, attempt_id)
        _touch(database, agent_id)
    except ServiceError as error:
        log.warning("lease_lost", reason=error.message)
        return False
    except Exception:  # the database may be back before the lease runs out
        log.exception("renewal_failed")
    return True


@contextmanager
def _identity(database: Database, settings: Settings) -> Iterator[str]:
    """This trainer's row in `agents`.

    The first trainer of a data directory keeps its id there under a lock. When it restarts after
    being killed, its unfinished jobs are handed out again at once, not when their leases end.
    """
    path = settings.data_dir / "trainer"
    path.parent.mkdir(parents=True, exist_ok=True)
    with locks.try_lock(path.with_suffix(".lock")) as is_first:
        if not is_first:
            yield _register(database)
            return
        known = path.read_text().strip() if path.exists() else ""
        agent_id = known if known and _resume(database, settings, known) else _register(database)
        write_whole(path, agent_id.encode())
        yield agent_id


def _resume(database: Database, settings: Settings, agent_id: str) -> bool:
    with database.write() as session:
        if session.get(Agent, agent_id) is None:
            return False
        jobs_service.begin_poll(session, settings, agent_id)
    return True


def _register(database: Database) -> str:
    with database.write() as session:
        agent = Agent(
            kind="trainer",
            agent_version=__version__,
            runtime_version="",
            max_opset=0,
            providers=[],
            facts={"host": socket.gethostname(), "pid": os.getpid()},
        )
        session.add(agent)
        session.flush()
        return agent.id
