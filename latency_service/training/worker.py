"""The trainer: a process that claims training jobs from the database and publishes predictors.

It claims jobs through the same function as the HTTP routes of the agents and holds the same leases.
Any number of trainers may run, and any of them may be killed at any moment: another attempt takes
over, and exactly one predictor results. A trainer waits for a database that is away, and publishes
what it has trained when the database is back.
"""

from __future__ import annotations

import contextvars
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import structlog
from structlog.contextvars import bound_contextvars

from latency_service import __version__
from latency_service.core import locks
from latency_service.core.errors import Conflict, Gone, ServiceError
from latency_service.core.files import write_whole
from latency_service.core.retry import Stopped
from latency_service.core.text import MAX_MESSAGE, plain
from latency_service.db.engine import Database
from latency_service.db.migrate import NotMigrated, check_migrated
from latency_service.db.patience import Patience
from latency_service.devices import repository as devices_repository
from latency_service.devices.models import Agent
from latency_service.jobs import claims
from latency_service.jobs import repository as jobs_repository
from latency_service.jobs import service as jobs_service
from latency_service.jobs.facts import Held, JobSpec
from latency_service.jobs.schemas import Failure, FailureKind
from latency_service.jobs.sweeping import Sweeper
from latency_service.predictors import service as predictors_service
from latency_service.settings import Settings
from latency_service.web.logging import configure_logging
from latency_service.wiring import connect_handlers

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from latency_service.training.pipeline import Trained, TrainingSet

T = TypeVar("T")

#: Models that learn from other targets too.
TRANSFERRED = frozenset({"lpnet-transfer"})

log = structlog.get_logger(__name__)


class AttemptLost(Exception):
    """The outcome of the training is dropped: its lease was lost before it had one, the job was
    cancelled, or another attempt has finished the job.
    """


@dataclass(frozen=True, kw_only=True)
class _Attempt:
    """An attempt at a training, and where it is carried out."""

    id: str
    database: Database
    settings: Settings
    agent_id: str
    #: Set when the trainer is to stop.
    stop: threading.Event
    patience: Patience

    def outlast(self, work: Callable[[], T]) -> T:
        """The result of `work`, whatever fault of the database interrupts it.

        Raises:
            Stopped: the trainer is to stop, and `work` has not succeeded.
        """
        return self.patience.outlast(work, self.stop)


def run_trainer(settings: Settings, stop: threading.Event) -> int:
    """Train until `stop` is set; returns the exit code, 1 when the database is not migrated."""
    configure_logging(as_json=settings.log_json)
    connect_handlers()
    database = Database(settings.url, pool_size=2)
    patience = Patience()
    try:
        patience.outlast(lambda: check_migrated(database.engine), stop)
        with _identity(database, settings, stop, patience) as agent_id:
            _loop(database, settings, agent_id, stop, patience)
    except Stopped:
        log.info("stopped_while_waiting")
    except NotMigrated as error:
        log.error("not_ready", message=error.message, cure=error.cure)
        return 1
    finally:
        database.dispose()
    return 0


def _loop(
    database: Database,
    settings: Settings,
    agent_id: str,
    stop: threading.Event,
    patience: Patience,
) -> None:
    heard_at = -math.inf
    sweep = Sweeper(database, settings).sweep
    while not stop.is_set():
        if time.monotonic() - heard_at >= settings.heartbeat_seconds:
            heard_at = time.monotonic()
            patience.outlast(lambda: _touch(database, agent_id), stop)
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

    Raises:
        Stopped: `stop` was set while the database was away.
    """
    patience = Patience()
    _, found = patience.outlast(
        lambda: claims.first_claim(database, settings, agent_id, sweep), stop
    )
    if found is None:
        return False
    attempt = _Attempt(
        id=found.attempt_id,
        database=database,
        settings=settings,
        agent_id=agent_id,
        stop=stop,
        patience=patience,
    )
    with bound_contextvars(job=found.spec.id, attempt=attempt.id):
        log.info("training")
        _carry_out(attempt, found.spec)
    return True


def _carry_out(attempt: _Attempt, job: JobSpec) -> None:
    """Train and publish, or tell why not."""
    try:
        # loads torch, which only a trainer with work needs
        from latency_service.training.gathering import gather

        with _renewed(attempt) as lost:
            data = attempt.outlast(lambda: gather(attempt.database, job))
            trained = _train(data, lost, attempt.stop)
            attempt.outlast(lambda: _publish(attempt, trained, data.measurement_ids))
    except (AttemptLost, Stopped):
        _abandon(attempt)
    except ValueError as error:
        _give_up(attempt, _failure("model_invalid", str(error)))
    except Exception as error:
        log.exception("training_failed")
        _give_up(attempt, _failure("internal", f"{type(error).__name__}: {error}"))


def _abandon(attempt: _Attempt) -> None:
    """Drop the attempt. When it is this trainer that stops, another need not wait for the lease to
    end.
    """
    log.warning("training_dropped")

    def give_back() -> None:
        with attempt.database.write() as session:
            jobs_service.abandon(session, attempt.settings, [attempt.id])

    attempt.outlast(give_back)


def _give_up(attempt: _Attempt, failure: Failure) -> None:
    def fail() -> None:
        with attempt.database.write() as session:
            jobs_service.fail(session, attempt.settings, attempt.agent_id, attempt.id, failure)

    attempt.outlast(fail)


def _failure(kind: FailureKind, message: str) -> Failure:
    return Failure(kind=kind, message=plain(message, MAX_MESSAGE))


def _publish(attempt: _Attempt, trained: Trained, measurement_ids: Sequence[str]) -> None:
    """Store the predictor with the ids of its measurements, and end its job, in one transaction.
    Idempotent. Like any result it counts also when the lease has run out, until another attempt has
    finished the job.

    Raises:
        AttemptLost: it does not count; nothing is stored.
    """
    with attempt.database.write() as session:
        held = jobs_repository.lock_attempt(session, attempt.id)
        if held is None:
            raise AttemptLost
        if held.attempt.state in ("done", "late"):
            log.info("published_before")
            return
        state = "done" if held.is_timely else _admit_late(session, held)
        row = predictors_service.publish(
            session, held.job, trained.artifact, trained.sidecar, measurement_ids, trained.held_out
        )
        jobs_service.complete(session, held, state)
    log.info("published", predictor=row.id, version=row.version, mape=trained.sidecar.mape)


def _admit_late(session: Session, held: Held) -> str:
    """State in which an attempt ends whose lease has run out before it was published.

    Raises:
        AttemptLost: it does not count.
    """
    try:
        outcome = jobs_service.admit_late(session, held)
    except (Conflict, Gone) as error:
        raise AttemptLost from error
    if outcome == "superseded":
        raise AttemptLost
    return outcome


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


@contextmanager
def _renewed(attempt: _Attempt) -> Iterator[threading.Event]:
    """Renew the lease while the block runs; the event is set when it was lost."""
    lost = threading.Event()
    done = threading.Event()
    reasons: list[str] = []

    def keep() -> None:
        while not (done.wait(attempt.settings.renew_seconds) or lost.is_set()):
            try:
                attempt.patience.outlast(lambda: _renew(attempt), done)
            except ServiceError as error:
                reasons.append(error.message)
                lost.set()
            except Stopped:
                return
            except Exception:  # the next renewal may come before the lease runs out
                log.exception("renewal_failed")

    # its log lines name the same job
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(keep,), name="lease", daemon=True)
    thread.start()
    try:
        yield lost
    except AttemptLost:
        # only now: publishing ends the lease too, or does without it
        for reason in reasons:
            log.warning("lease_lost", reason=reason)
        raise
    finally:
        done.set()
        thread.join()


def _renew(attempt: _Attempt) -> None:
    """Renew the lease once.

    Raises:
        ServiceError: it is lost.
    """
    with attempt.database.change() as connection:
        jobs_service.renew(connection, attempt.settings, attempt.agent_id, attempt.id)
    _touch(attempt.database, attempt.agent_id)


@contextmanager
def _identity(
    database: Database, settings: Settings, stop: threading.Event, patience: Patience
) -> Iterator[str]:
    """This trainer's row in `agents`.

    The first trainer of a data directory keeps its id there under a lock. When it restarts after
    being killed, its unfinished jobs are handed out again at once, not when their leases end.
    """

    def enter(known: str) -> str:
        return known if known and _resume(database, settings, known) else _register(database)

    path = settings.data_dir / "trainer"
    path.parent.mkdir(parents=True, exist_ok=True)
    with locks.try_lock(path.with_suffix(".lock")) as is_first:
        if not is_first:
            yield patience.outlast(lambda: enter(""), stop)
            return
        known = path.read_text().strip() if path.exists() else ""
        agent_id = patience.outlast(lambda: enter(known), stop)
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
