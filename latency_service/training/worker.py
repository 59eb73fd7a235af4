"""The trainer: a process that claims training jobs from the database and publishes predictors.

It claims through the same function as the agents do over HTTP, and holds the same leases, so any
number of trainers may run and any of them may be killed at any moment: another attempt takes over,
and one predictor results.
"""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import structlog

from latency_service import __version__
from latency_service.core import locks
from latency_service.core.errors import ServiceError
from latency_service.core.files import write_whole
from latency_service.db.engine import Database
from latency_service.db.migrate import check_migrated
from latency_service.devices import repository as devices_repository
from latency_service.devices.models import Agent
from latency_service.jobs import repository as jobs_repository
from latency_service.jobs import service as jobs_service
from latency_service.jobs.models import Job
from latency_service.jobs.schemas import Failure
from latency_service.lattices import repository as lattices_repository
from latency_service.lattices.sampling import group_lattice
from latency_service.lattices.schemas import Lattice
from latency_service.measurements import repository as measurements_repository
from latency_service.predictors import service as predictors_service
from latency_service.settings import Settings
from latency_service.spaces import service as spaces_service
from latency_service.web.logging import configure_logging
from latency_service.wiring import connect_handlers

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from latency_service.training.pipeline import KnownTarget, Trained, TrainingSet

#: Other targets that training learns from, at most, and their measurements that it takes, the
#: newest.
MOST_KNOWN = 6
MOST_OF_ONE = 300

log = structlog.get_logger(__name__)


class AttemptLost(Exception):
    """The lease was lost, or the job was cancelled, while the training ran; its outcome is
    dropped.
    """


@dataclass(frozen=True, kw_only=True)
class _Claimed:
    job_id: str
    attempt_id: str


def run_trainer(settings: Settings, stop: threading.Event) -> int:
    """Train whatever is asked for until `stop` is set; the exit code (1: the database is not
    migrated).
    """
    configure_logging(as_json=settings.log_json)
    connect_handlers()
    database = Database(settings.url, pool_size=2)
    try:
        try:
            check_migrated(database.engine)
        except ServiceError as error:
            log.error("not_ready", message=error.message, cure=error.cure)
            return 1
        with _identity(database, settings) as agent_id:
            heard_at = -math.inf
            while not stop.is_set():
                if time.monotonic() - heard_at >= settings.heartbeat_seconds:
                    heard_at = time.monotonic()
                    _touch(database, agent_id)
                if not train_next(database, settings, agent_id, stop):
                    stop.wait(settings.poll_seconds)
        return 0
    finally:
        database.dispose()


def train_next(
    database: Database, settings: Settings, agent_id: str, stop: threading.Event
) -> bool:
    """Claim one training job and see it through; False when none waits."""
    found = jobs_service.claim_next(database, settings, agent_id)
    if found is None:
        return False
    claimed = _Claimed(job_id=found[0].id, attempt_id=found[1].id)
    log.info("training", job=claimed.job_id, attempt=claimed.attempt_id)
    try:
        with _renewed(database, settings, agent_id, claimed.attempt_id) as lost:
            data = gather(database, found[0])
            trained = _train(data, lost, stop)
        publish(database, claimed, trained, data.measurement_ids)
    except AttemptLost:
        log.warning("training_dropped", job=claimed.job_id, attempt=claimed.attempt_id)
        with (
            database.write() as session
        ):  # when it is this trainer that stops, another need not wait for the lease
            jobs_service.abandon(session, settings, [claimed.attempt_id])
    except ValueError as error:
        _give_up(
            database,
            settings,
            agent_id,
            claimed,
            Failure(kind="model_invalid", message=str(error)[:4000]),
        )
    except Exception as error:
        log.exception("training_failed", job=claimed.job_id)
        message = f"{type(error).__name__}: {error}"[:4000]
        _give_up(database, settings, agent_id, claimed, Failure(kind="internal", message=message))
    return True


def gather(database: Database, job: Job) -> TrainingSet:
    """Everything that a training job learns from: what was measured of its space on its target, in
    any campaign.

    Raises:
        ValueError: nothing was.
    """
    from latency_service.training.pipeline import (
        TrainingSet,
    )  # torch: loaded in the trainer's process alone

    assert job.space_id is not None
    assert job.target_id is not None
    with database.read() as session:
        space = spaces_service.load(session, job.space_id)
        target = devices_repository.target(session, job.target_id)
        rows = measurements_repository.for_training(session, job.space_id, job.target_id)
        known = _known(session, job.space_id, job.target_id)
        stored = lattices_repository.newest(session, job.target_id)
        if stored is None and job.lattice_id is not None:
            stored = lattices_repository.lattice(session, job.lattice_id)
    if not rows:
        raise ValueError("No measurement to train on. Create the campaign again.")
    lattice = Lattice(kinds=[]) if stored is None else Lattice.model_validate(stored.lattice)
    return TrainingSet(
        space=space,
        fingerprint=target.fingerprint,
        measurement_ids=[row.id for row in rows],
        widths=np.array([row.widths for row in rows], dtype=np.int64),
        latency_ms=np.array([row.latency_ms for row in rows]),
        half_width=np.array([(row.upper_ms - row.lower_ms) / (2 * row.latency_ms) for row in rows]),
        lattice=group_lattice(space, lattice),
        seed=job.seed,
        known=known,
    )


def _known(session: Session, space_id: str, target_id: str) -> list[KnownTarget]:
    """What was measured of the space on other targets, and on this one as it was before its runtime
    changed.
    """
    from latency_service.training.models.transfer import LEAST_KNOWN, KnownTarget

    found = []
    for other in measurements_repository.targets_of(
        session, space_id, least=LEAST_KNOWN, most=MOST_KNOWN
    ):
        if other != target_id:
            rows = measurements_repository.for_training(session, space_id, other)[-MOST_OF_ONE:]
            widths = [row.widths for row in rows]
            latency = [row.latency_ms for row in rows]
            found.append(KnownTarget(widths=np.array(widths), latency_ms=np.array(latency)))
    return found


def publish(
    database: Database, claimed: _Claimed, trained: Trained, measurement_ids: Sequence[str]
) -> None:
    """Keep the predictor, with what it was trained on, and end its job in one transaction.

    Raises:
        AttemptLost: the attempt is not open any more; nothing is kept.
    """
    with database.write() as session:
        job = jobs_repository.lock_job(session, claimed.job_id)
        attempt = jobs_repository.attempt(session, claimed.attempt_id)
        if attempt is None or attempt.state != "open":
            raise AttemptLost
        row = predictors_service.publish(
            session, job, trained.artifact, trained.sidecar, measurement_ids
        )
        attempt.state = "done"
        attempt.finished_at = devices_repository.now(session)
        session.flush()
        jobs_service.finish(session, job, "done")
        log.info("published", predictor=row.id, version=row.version, mape=trained.sidecar.mape)


def _train(data: TrainingSet, lost: threading.Event, stop: threading.Event) -> Trained:
    from latency_service.training.pipeline import train

    def over() -> bool:
        return lost.is_set() or stop.is_set()

    def progress(phase: str, share: float) -> None:
        if over():
            raise AttemptLost

    with locks.turn(over):
        return train(data, progress=progress)


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
        while not done.wait(settings.renew_seconds):
            try:
                with database.write() as session:
                    jobs_service.renew(session, settings, agent_id, attempt_id)
                _touch(database, agent_id)
            except ServiceError as error:
                log.warning("lease_lost", attempt=attempt_id, reason=error.message)
                lost.set()
                return
            except Exception:  # the database may be back before the lease runs out
                log.exception("renewal_failed", attempt=attempt_id)

    thread = threading.Thread(target=keep, name="lease", daemon=True)
    thread.start()
    try:
        yield lost
    finally:
        done.set()
        thread.join()


@contextmanager
def _identity(database: Database, settings: Settings) -> Iterator[str]:
    """This trainer's row in `agents`.

    The first trainer of a data directory keeps its id there under a lock: when it comes back after
    being killed, what it was working on is given out again at once instead of when the lease runs
    out.
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
