"""A database of the first revision with rows in every table, as a service of that time left it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, Table, select

from latency_service.db.engine import make_engine
from latency_service.db.migrate import upgrade
from latency_service.measurements.schemas import Calibration, Protocol, Round
from latency_service.settings import Settings
from tests.support import fake_predictor
from tests.support.tiny import tiny_space

FIRST = "20250601_first"
WHEN = datetime(2025, 6, 2, 9, 30, tzinfo=UTC)
RUNTIME = {
    "provider": "CPUExecutionProvider",
    "intra_threads": 1,
    "batch": 1,
    "precision": "fp32",
}
KEY = "CPUExecutionProvider/t1/b1/fp32"
CANARIES = ["tiny", "half", "full"]
FLOOR_MS = [0.1, 0.4, 0.9]
Rows = dict[str, list[dict[str, Any]]]


def old_rows() -> Rows:
    """Rows by table, each table after those that it refers to."""
    return {**_devices(), **_spaces(), **_queue(), **_results()}


def fill(engine: Engine, rows: Rows) -> None:
    """Insert rows into tables as the database has them, whatever the models say today."""
    with engine.begin() as connection:
        for name, entries in rows.items():
            table = Table(name, MetaData(), autoload_with=connection)
            for entry in entries:
                connection.execute(table.insert().values(_for_database(connection, entry)))


def make_old(settings: Settings, revision: str = "head") -> None:
    """An empty database becomes one of the first revision with rows, and is brought to
    `revision`.
    """
    upgrade(settings, FIRST)
    engine = make_engine(settings.url)
    try:
        fill(engine, old_rows())
    finally:
        engine.dispose()
    upgrade(settings, revision)


def content(engine: Engine) -> dict[str, list[dict[str, Any]]]:
    """Every row of every table, by table, ordered by the primary key."""
    found = MetaData()
    found.reflect(engine)
    with engine.connect() as connection:
        return {
            table.name: _rows(connection, table)
            for table in found.sorted_tables
            if table.name != "alembic_version"
        }


def _rows(connection: Connection, table: Table) -> list[dict[str, Any]]:
    ordered = select(table).order_by(*table.primary_key.columns)
    return [dict(row) for row in connection.execute(ordered).mappings()]


def _for_database(connection: Connection, entry: dict[str, Any]) -> dict[str, Any]:
    """SQLite keeps instants without their zone, in UTC."""
    if connection.dialect.name != "sqlite":
        return entry
    return {
        name: value.replace(tzinfo=None) if isinstance(value, datetime) else value
        for name, value in entry.items()
    }


def _devices() -> Rows:
    agent = {
        "agent_version": "0.1.0",
        "runtime_version": "1.20.0",
        "max_opset": 21,
        "providers": ["CPUExecutionProvider"],
        "facts": {"machine": "aarch64"},
        "state": "idle",
        "load": 0.25,
        "temperature_c": 51.5,
        "created_at": WHEN,
        "last_seen_at": WHEN,
    }
    target = {
        "device_id": "d1",
        "fingerprint": "f" * 64,
        "runtime_key": KEY,
        "runtime": RUNTIME,
        "facts": {"cpu": "Cortex-A72", "onnxruntime": "1.20.0"},
        "context": {"load": 0.1},
        "canaries": CANARIES,
        "created_at": WHEN,
    }
    return {
        "devices": [{"id": "d1", "name": "board", "created_at": WHEN, "last_seen_at": WHEN}],
        "agents": [
            {"id": "a1", "kind": "device", "device_id": "d1", **agent},
            {"id": "a2", "kind": "trainer", "device_id": None, **agent},
        ],
        "targets": [
            {"id": "t1", "canary_ms": FLOOR_MS, "generation": 1, "is_current": True, **target},
            {"id": "t2", "canary_ms": [1, 4, 9], "generation": 2, "is_current": False, **target},
        ],
        "tokens": [
            {"sha256": "1" * 64, "role": "agent", "agent_id": "a1", "created_at": WHEN},
            {"sha256": "2" * 64, "role": "enrolment", "created_at": WHEN, "expires_at": WHEN},
        ],
    }


def _spaces() -> Rows:
    space = tiny_space()
    groups = [group.model_dump() for group in space.groups]
    return {
        "models": [
            {
                "sha256": "3" * 64,
                "size_bytes": 4,
                "opset": 17,
                "uploads": 1,
                "created_at": WHEN,
                "blob": b"\0\1\2\3",
            }
        ],
        "spaces": [
            {
                "id": space.id,
                "name": "tiny",
                "groups": groups,
                "opset": 17,
                "inputs": {"input": ["batch", 3, 8, 8]},
                "size_bytes": len(space.data),
                "parameters": 4000,
                "macs": 3_000_000_000,
                "is_probe": False,
                "created_at": WHEN,
                "blob": space.data,
            }
        ],
        "lattices": [
            {
                "id": "l1",
                "target_id": "t1",
                "version": 1,
                "lattice": {"kinds": []},
                "created_at": WHEN,
            }
        ],
    }


def _queue() -> Rows:
    campaign = {
        "id": "c1",
        "space_id": tiny_space().id,
        "device_id": "d1",
        "runtime_key": KEY,
        "runtime": RUNTIME,
        "purpose": "predictor",
        "state": "done",
        "phase": "done",
        "count": 2,
        "repeats": 0,
        "batch_size": 8,
        "protocol": Protocol().model_dump(),
        "seed": 7,
        "repair": False,
        "goal_percent": 3.0,
        "lattice_id": "l1",
        "created_at": WHEN,
        "finished_at": WHEN,
    }
    jobs = [
        _job("j1", "measure", "done", campaign_id="c1", stage="measuring"),
        _job("j2", "verify", "queued", model_sha256="3" * 64),
        _job("j3", "train", "done", device_id=None, target_id="t1", lattice_id="l1"),
        _job("j4", "measure", "failed", failure_kind="agent_lost", failure_message="gone"),
    ]
    attempts = [
        _attempt("p1", "j1", "a1", "done", digest="4" * 64, wall_seconds=2.0, timed_seconds=1.5),
        _attempt("p2", "j3", "a2", "done"),
        _attempt("p3", "j4", "a1", "expired", failure_kind="agent_lost", message="gone"),
    ]
    return {"campaigns": [campaign], "jobs": jobs, "attempts": attempts}


def _job(job_id: str, kind: str, state: str, **more: Any) -> dict[str, Any]:
    return {
        "id": job_id,
        "kind": kind,
        "state": state,
        "device_id": "d1",
        "priority": 10,
        "position": 0,
        "space_id": tiny_space().id,
        "provider": "CPUExecutionProvider",
        "opset": 17,
        "runtime": RUNTIME,
        "protocol": Protocol().model_dump(),
        "seed": 7,
        "architectures": [[8, 8], [4, 4]],
        "attempts_used": 1,
        "created_at": WHEN,
        **more,
    }


def _attempt(
    attempt_id: str, job_id: str, agent_id: str, state: str, **more: Any
) -> dict[str, Any]:
    return {
        "id": attempt_id,
        "job_id": job_id,
        "agent_id": agent_id,
        "number": 1,
        "state": state,
        "leased_at": WHEN,
        "expires_at": WHEN,
        "finished_at": WHEN,
        **more,
    }


def _results() -> Rows:
    space_id = tiny_space().id
    predictor = {
        "id": "q1",
        "space_id": space_id,
        "target_id": "t1",
        "job_id": "j3",
        "version": 1,
        "artifact_sha256": "5" * 64,
        "sidecar": fake_predictor.sidecar(space_id, "f" * 64).model_dump(),
        "measurement_ids": ["m0", "m1"],
        "created_at": WHEN,
        "artifact": fake_predictor.artifact(),
    }
    run = {
        "id": "r1",
        "name": "demo",
        "method": "w-gates",
        "space_id": space_id,
        "predictor_id": "q1",
        "budget_ms": 1.5,
        "report": {"met": True},
        "created_at": WHEN,
    }
    measurements = [_measurement(0, [8, 8]), _measurement(1, [4, 4])]
    return {"predictors": [predictor], "measurements": measurements, "runs": [run]}


def _measurement(position: int, widths: list[int]) -> dict[str, Any]:
    latency_ms = 0.5 + position
    visit = Round(
        at_seconds=1.0, latency_ms=latency_ms, runs=5, before_ms=FLOOR_MS, after_ms=FLOOR_MS
    )
    return {
        "id": f"m{position}",
        "space_id": tiny_space().id,
        "target_id": "t1",
        "campaign_id": "c1",
        "job_id": "j1",
        "attempt_id": "p1",
        "position": position,
        "widths": widths,
        "counted": True,
        "latency_ms": latency_ms,
        "lower_ms": latency_ms - 0.01,
        "upper_ms": latency_ms + 0.01,
        "naive_ms": latency_ms,
        "verdict": "ok",
        "trainable": True,
        "quiet_share": 1.0,
        "quarantined_share": 0.0,
        "rounds_used": 2,
        "stopped": "precise",
        "created_at": WHEN,
        "calibration": Calibration(canaries=CANARIES, floor_ms=FLOOR_MS).model_dump(),
        "rounds": [visit.model_dump(), visit.model_dump()],
    }
