"""A database as a company has it after a year of many devices and campaigns."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, NamedTuple

from sqlalchemy import insert
from sqlalchemy.orm import Session

from benchmarks.support.predictors import made_up_set
from benchmarks.support.served_database import served_space
from latency_service.campaigns.models import Campaign
from latency_service.db.base import Base, new_id
from latency_service.db.engine import Database
from latency_service.devices.models import Agent, Device, Target
from latency_service.devices.schemas import RuntimeConfig
from latency_service.jobs.models import Attempt, Job
from latency_service.measurements.models import Measurement
from latency_service.measurements.schemas import Protocol, Round
from latency_service.predictors.models import StoredPredictor
from latency_service.runs.models import Run
from latency_service.runs.service import summary_of
from latency_service.spaces import service as spaces_service
from latency_service.spaces.slicing import SearchSpace
from latency_service.training.pipeline import train

#: Architectures of a job, rounds of a measurement, steps of a run's history.
JOB_SIZE = 16
ROUNDS = 18
STEPS = 2000
_CHUNK = 2000
_NOW = datetime.now(UTC)


class Size(NamedTuple):
    """How much of everything there is."""

    devices: int
    campaigns: int
    measurements: int
    predictors: int
    runs: int


FULL = Size(devices=100, campaigns=500, measurements=100_000, predictors=1000, runs=200)
QUICK = Size(devices=20, campaigns=20, measurements=2000, predictors=40, runs=20)


class Filled(NamedTuple):
    """One of each kind, by id or name."""

    space: str
    device: str
    campaign: str
    job: str
    measurement: str
    predictor: str
    runs: list[str]
    targets: list[str]


def fill(database: Database, size: Size) -> Filled:
    """Fill a migrated, empty database."""
    space = served_space()
    with database.write() as session:
        spaces_service.store(session, spaces_service.describe(space))
        devices = _devices(session, size.devices)
        campaigns = _campaigns(session, space, devices, size.campaigns)
        jobs = _jobs(session, space, devices, campaigns, size)
        measurement = _measurements(session, space, jobs, size.measurements)
        predictor = _predictors(session, space, devices, size.predictors)
        runs = _runs(session, space, predictor, size.runs)
    return Filled(
        space=space.id,
        device=devices[0]["name"],
        campaign=campaigns[0]["id"],
        job=jobs[0]["id"],
        measurement=measurement,
        predictor=predictor,
        runs=runs,
        targets=[device["target"] for device in devices],
    )


def _devices(session: Session, count: int) -> list[dict[str, Any]]:
    runtime = RuntimeConfig()
    made = [
        {"id": new_id(), "name": f"board-{number:03}", "target": new_id(), "agent": new_id()}
        for number in range(count)
    ]
    _store(
        session, Device, ({"id": d["id"], "name": d["name"], "last_seen_at": _NOW} for d in made)
    )
    _store(session, Agent, (_agent(device) for device in made))
    _store(session, Target, (_target(device, runtime) for device in made))
    return made


def _agent(device: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": device["agent"],
        "kind": "device",
        "device_id": device["id"],
        "agent_version": "0.1.0",
        "runtime_version": "1.31.1",
        "max_opset": 21,
        "providers": ["CPUExecutionProvider"],
        "facts": {"cores": 4},
        "state": "idle",
        "last_seen_at": _NOW,
    }


def _target(device: dict[str, Any], runtime: RuntimeConfig) -> dict[str, Any]:
    return {
        "id": device["target"],
        "device_id": device["id"],
        "fingerprint": "f" * 64,
        "runtime_key": runtime.key,
        "runtime": runtime.model_dump(),
        "facts": {"processor": "Cortex-A76", "cores": 4, "governor": "performance"},
        "context": {},
        "canaries": ["tiny", "half", "full"],
        "canary_ms": [0.1, 0.4, 0.9],
        "generation": 1,
        "is_current": True,
    }


def _campaigns(
    session: Session, space: SearchSpace, devices: list[dict[str, Any]], count: int
) -> list[dict[str, Any]]:
    runtime = RuntimeConfig()
    made = [
        {
            "id": new_id(),
            "space_id": space.id,
            "device_id": devices[number % len(devices)]["id"],
            "runtime_key": runtime.key,
            "runtime": runtime.model_dump(),
            "purpose": "measure",
            "state": "running" if number == 0 else "done",
            "phase": "measuring" if number == 0 else "done",
            "count": 200,
            "repeats": 12,
            "batch_size": JOB_SIZE,
            "protocol": Protocol().model_dump(),
            "seed": 0,
            "created_at": _NOW - timedelta(minutes=count - number),
        }
        for number in range(count)
    ]
    _store(session, Campaign, made)
    return made


def _jobs(
    session: Session,
    space: SearchSpace,
    devices: list[dict[str, Any]],
    campaigns: list[dict[str, Any]],
    size: Size,
) -> list[dict[str, Any]]:
    count = size.measurements // JOB_SIZE
    widths = [space.full_widths] * JOB_SIZE
    made = [_job(space, devices, campaigns, number, widths) for number in range(count)]
    _store(session, Job, ({k: v for k, v in job.items() if k not in _OWN} for job in made))
    _store(session, Attempt, (_attempt(job) for job in made))
    return made


#: What the fields of a job carry for its attempt and measurements.
_OWN = ("attempt", "agent", "target")


def _job(
    space: SearchSpace,
    devices: list[dict[str, Any]],
    campaigns: list[dict[str, Any]],
    number: int,
    widths: list[list[int]],
) -> dict[str, Any]:
    campaign = campaigns[number % len(campaigns)]
    device = devices[number % len(campaigns) % len(devices)]
    ended = _NOW - timedelta(seconds=90 * number)
    return {
        "id": new_id(),
        "kind": "measure",
        "state": "failed" if number % 50 == 49 else "done",
        "device_id": device["id"],
        "campaign_id": campaign["id"],
        "stage": "measuring",
        "space_id": space.id,
        "provider": "CPUExecutionProvider",
        "opset": 17,
        "runtime": RuntimeConfig().model_dump(),
        "protocol": Protocol().model_dump(),
        "architectures": widths,
        "attempts_used": 1,
        "failure_kind": "device_oom" if number % 50 == 49 else None,
        "created_at": ended - timedelta(minutes=2),
        "finished_at": ended,
        "attempt": new_id(),
        "agent": device["agent"],
        "target": device["target"],
    }


def _attempt(job: dict[str, Any]) -> dict[str, Any]:
    failed = job["state"] == "failed"
    return {
        "id": job["attempt"],
        "job_id": job["id"],
        "agent_id": job["agent"],
        "number": 1,
        "state": job["state"],
        "leased_at": job["created_at"],
        "expires_at": job["finished_at"],
        "finished_at": job["finished_at"],
        "digest": None if failed else "d" * 64,
        "wall_seconds": None if failed else 60.0,
        "timed_seconds": None if failed else 40.0,
        "failure_kind": job["failure_kind"],
    }


def _measurements(
    session: Session, space: SearchSpace, jobs: list[dict[str, Any]], count: int
) -> str:
    rounds = [_round(number) for number in range(ROUNDS)]
    rows = (
        _measurement(space, jobs[number // JOB_SIZE], number, rounds)
        for number in range(JOB_SIZE * len(jobs))
    )
    return _store(session, Measurement, rows)


def _round(number: int) -> dict[str, Any]:
    canaries = [0.1, 0.4, 0.9]
    one = Round(
        at_seconds=0.1 * number, latency_ms=1.0, runs=5, before_ms=canaries, after_ms=canaries
    )
    return one.model_dump()


def _measurement(
    space: SearchSpace, job: dict[str, Any], number: int, rounds: list[dict[str, Any]]
) -> dict[str, Any]:
    latency = 1.0 + 0.001 * (number % 997)
    return {
        "id": new_id(),
        "space_id": space.id,
        "target_id": job["target"],
        "campaign_id": job["campaign_id"],
        "job_id": job["id"],
        "attempt_id": job["attempt"],
        "position": number % JOB_SIZE,
        "widths": [max(4, width - 4 * (number % 4)) for width in space.full_widths],
        "counted": True,
        "latency_ms": latency,
        "lower_ms": 0.99 * latency,
        "upper_ms": 1.01 * latency,
        "naive_ms": latency,
        "verdict": "ok",
        "trainable": True,
        "quiet_share": 1.0,
        "quarantined_share": 0.0,
        "rounds_used": ROUNDS,
        "stopped": "precise",
        "created_at": job["finished_at"],
        "calibration": {"canaries": ["tiny", "half", "full"], "floor_ms": [0.101, 0.4, 0.91]},
        "rounds": rounds,
    }


def _predictors(
    session: Session, space: SearchSpace, devices: list[dict[str, Any]], count: int
) -> str:
    # pages of a predictor evaluate it
    trained = train(made_up_set(space))
    sidecar = trained.sidecar.model_dump(mode="json")
    held_out = trained.held_out.model_dump(mode="json")
    digest = sha256(trained.artifact).hexdigest()
    trainings = [
        {
            "id": new_id(),
            "kind": "train",
            "state": "done",
            "space_id": space.id,
            "target_id": devices[number % len(devices)]["target"],
            "provider": "",
            "opset": 0,
            "runtime": {},
            "protocol": {},
            "architectures": [],
            "finished_at": _NOW,
        }
        for number in range(count)
    ]
    _store(session, Job, trainings)
    rows = (
        {
            "id": new_id(),
            "space_id": space.id,
            "target_id": job["target_id"],
            "job_id": job["id"],
            "version": 1 + number // len(devices),
            "artifact_sha256": digest,
            "sidecar": sidecar,
            "measurement_ids": [new_id() for _ in range(120)],
            "artifact": trained.artifact,
            "held_out": held_out,
        }
        for number, job in enumerate(trainings)
    )
    return _store(session, StoredPredictor, rows)


def _runs(session: Session, space: SearchSpace, predictor: str, count: int) -> list[str]:
    """Runs with results, and a last one that goes on."""
    made = [_run(space, predictor, number) for number in range(count)]
    made[-1] |= {"state": "running", "summary": None, "report": None}
    _store(session, Run, made)
    return [run["id"] for run in made]


def _run(space: SearchSpace, predictor: str, number: int) -> dict[str, Any]:
    report = _report(space, number)
    return {
        "id": new_id(),
        "name": f"run {number}",
        "method": "gates",
        "space_id": space.id,
        "predictor_id": predictor,
        "budget_ms": 1.2,
        "state": "done",
        "summary": summary_of(report).model_dump(),
        "report": report,
    }


def _report(space: SearchSpace, number: int) -> dict[str, Any]:
    widths = [width // 2 for width in space.full_widths]
    latency_ms = 1.1 + 0.001 * number
    measured = {
        "latency_ms": latency_ms,
        "lower_ms": 0.99 * latency_ms,
        "upper_ms": 1.01 * latency_ms,
    }
    names = [group.name for group in space.groups]
    reading = {"stage": "delivered", "widths": widths, "predicted_ms": 1.1, "verdict": "ok"}
    return {
        "outcome": "met",
        "device": "board-000",
        "fingerprint": "f" * 64,
        "dense": {"latency_ms": 1.9, "accuracy": 92.0},
        "pruned": {**measured, "accuracy": 90.0 + 0.01 * number},
        "widths": [
            {"name": name, "before": full, "after": width}
            for name, full, width in zip(names, space.full_widths, widths, strict=True)
        ],
        "layers": [{"name": name, "before_ms": 0.1, "after_ms": 0.05} for name in names],
        "history": [
            {"phase": "prune", "step": step, "loss": 1 / step, "latency_ms": 1.2, "widths": widths}
            for step in range(1, STEPS + 1)
        ],
        "verifications": [
            {**reading, **measured, "measurement_id": new_id(), "device": "board-000"}
            for _ in range(8)
        ],
        "config": {"method": {"epochs": number}, "seed": 0},
    }


def _store(session: Session, table: type[Base], rows: Any) -> str:
    """Insert rows some thousand at a time; the id of the last."""
    last = ""
    for chunk in _chunks(iter(rows)):
        session.execute(insert(table), chunk)
        last = str(chunk[-1]["id"])
    return last


def _chunks(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    chunk: list[dict[str, Any]] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
