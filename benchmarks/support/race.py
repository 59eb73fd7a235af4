"""Many processes that claim jobs from one queue and finish them: who got what, and how fast."""

from __future__ import annotations

import gc
import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import insert, select
from sqlalchemy.orm import Session

from latency_service.db.base import new_id
from latency_service.db.engine import Database
from latency_service.db.tables import Agent, Device, Job
from latency_service.devices.schemas import RuntimeConfig
from latency_service.jobs import claims, service
from latency_service.measurements.schemas import Protocol
from latency_service.settings import Settings
from latency_service.web.logging import configure_logging

#: Longest time of a race, s.
LONGEST_SECONDS = 900.0


@dataclass(kw_only=True)
class Racer:
    """What one process has done."""

    #: Jobs that it has finished.
    finished: list[str] = field(default_factory=list)
    #: Duration of each claim with the finishing of its job, ms.
    milliseconds: list[float] = field(default_factory=list)
    #: Errors that reached it.
    errors: list[str] = field(default_factory=list)
    #: Processor time that it took, s.
    cpu_seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Race:
    """What all have done together."""

    jobs: int
    racers: list[Racer]
    #: From the common start until the last one found nothing more, s.
    seconds: float

    @property
    def finished(self) -> Counter[str]:
        """How often each job was finished."""
        return Counter(job_id for racer in self.racers for job_id in racer.finished)

    @property
    def is_exactly_once(self) -> bool:
        return len(self.finished) == self.jobs and set(self.finished.values()) <= {1}

    @property
    def errors(self) -> list[str]:
        return [error for racer in self.racers for error in racer.errors]

    @property
    def milliseconds(self) -> list[float]:
        return sorted(each for racer in self.racers for each in racer.milliseconds)

    @property
    def p99_ms(self) -> float:
        every = self.milliseconds
        return every[int(0.99 * (len(every) - 1))]


def fill(session: Session, jobs: int, agents: int) -> list[str]:
    """A device with a queue and these agents; returns the agents' ids."""
    device = Device(name=f"board-{new_id()[-8:]}")
    session.add(device)
    session.flush()
    runners = [_agent(device.id) for _ in range(agents)]
    session.add_all(runners)
    session.flush()
    rows = [_job(device.id, position) for position in range(jobs)]
    session.execute(insert(Job), rows)
    return [runner.id for runner in runners]


def claim(database: Database, settings: Settings, agent_id: str) -> tuple[str, str] | None:
    """Claim as the service does."""
    claimed = claims.claim_next(database, settings, agent_id)
    return None if claimed is None else (claimed.spec.id, claimed.attempt_id)


def claim_in_two_steps(
    database: Database, settings: Settings, agent_id: str
) -> tuple[str, str] | None:
    """Claim as it must not be done: select, then update. A race shows that two get one job."""
    with database.read() as session:
        waiting = select(Job.id).where(Job.state == "queued").order_by(Job.position).limit(1)
        job_id = session.scalar(waiting)
    if job_id is None:
        return None
    attempt_id = new_id()
    with database.write() as session:
        job = session.get_one(Job, job_id)
        job.state = "leased"
        job.attempts_used += 1
    return job_id, attempt_id


def finish(database: Database, agent_id: str, attempt_id: str) -> None:
    """End an attempt and its job as a success, without measurements."""
    with database.change() as connection:
        if service.finish(connection, agent_id, attempt_id) is None:
            raise RuntimeError(f"attempt {attempt_id} is not open")


def finish_unchecked(database: Database, job_id: str) -> None:
    """End a job that was claimed in two steps, which opened no attempt."""
    with database.write() as session:
        session.get_one(Job, job_id).state = "done"


def race(url: str, agent_ids: Sequence[str], jobs: int, *, in_two_steps: bool = False) -> Race:
    """Let one process for each agent claim and finish until nothing waits.

    Raises:
        RuntimeError: One of them died, or still runs after `LONGEST_SECONDS`.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # each process need not import everything itself
    start = context.Barrier(len(agent_ids) + 1)
    with context.Manager() as manager:
        done = manager.list()
        processes = [
            context.Process(
                target=_run, args=(url, agent_id, start, done, in_two_steps), daemon=True
            )
            for agent_id in agent_ids
        ]
        for process in processes:
            process.start()
        start.wait(120)
        begun = time.monotonic()
        for process in processes:
            process.join(max(0.0, begun + LONGEST_SECONDS - time.monotonic()))
        seconds = time.monotonic() - begun
        codes = [process.exitcode for process in processes]
        if any(code != 0 for code in codes):  # None: it still runs
            raise RuntimeError(f"processes of the race ended with {codes}")
        return Race(jobs=jobs, racers=list(done), seconds=seconds)


def _run(url: str, agent_id: str, start: Any, done: Any, in_two_steps: bool) -> None:
    settings = Settings(database_url=url, data_dir=Path("/nonexistent"))
    database = Database(settings.url, pool_size=1)
    # lines of the log are made as the service makes them, but nobody reads them
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    configure_logging(as_json=False)
    gc.freeze()  # as the service does after its start
    racer = Racer()
    start.wait(120)
    spent = psutil.Process().cpu_times()
    try:
        while _once(database, settings, agent_id, racer, in_two_steps):
            pass
    except Exception as error:  # noqa: BLE001 - that none reaches a client is what is tried
        racer.errors.append(f"{type(error).__name__}: {error}")
    now = psutil.Process().cpu_times()
    racer.cpu_seconds = now.user + now.system - spent.user - spent.system
    done.append(racer)


def _once(
    database: Database, settings: Settings, agent_id: str, racer: Racer, in_two_steps: bool
) -> bool:
    begun = time.perf_counter()
    found = (claim_in_two_steps if in_two_steps else claim)(database, settings, agent_id)
    if found is None:
        return False
    job_id, attempt_id = found
    if in_two_steps:
        finish_unchecked(database, job_id)
    else:
        finish(database, agent_id, attempt_id)
    racer.finished.append(job_id)
    racer.milliseconds.append(1000 * (time.perf_counter() - begun))
    return True


def _agent(device_id: str) -> Agent:
    return Agent(
        kind="device",
        device_id=device_id,
        agent_version="0",
        runtime_version="0",
        max_opset=21,
        providers=["CPUExecutionProvider"],
        facts={},
    )


def _job(device_id: str, position: int) -> dict[str, Any]:
    return {
        "kind": "measure",
        "device_id": device_id,
        "position": position,
        "provider": "CPUExecutionProvider",
        "opset": 17,
        "runtime": RuntimeConfig().model_dump(),
        "protocol": Protocol().model_dump(),
        "architectures": [[8, 8]],
    }
