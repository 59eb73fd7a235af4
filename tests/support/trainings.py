"""Training jobs whose predictor is made up."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import select

from latency_service.db.engine import Database
from latency_service.devices.models import Agent
from latency_service.jobs.models import Attempt, Job
from latency_service.measurements.models import Measurement
from latency_service.predictors import service
from latency_service.predictors.models import StoredPredictor
from latency_service.training.pipeline import Trained, TrainingSet
from tests.support import fake_predictor


def fake_train(data: TrainingSet, *, progress: Any = None) -> Trained:
    return Trained(
        artifact=fake_predictor.artifact(),
        sidecar=fake_predictor.sidecar(data.space.id, data.fingerprint),
        held_out=fake_predictor.held_out(),
    )


@contextmanager
def registered(database: Database) -> Iterator[str]:
    with database.write() as session:
        agent = Agent(
            kind="trainer",
            agent_version="0",
            runtime_version="",
            max_opset=0,
            providers=[],
            facts={},
        )
        session.add(agent)
    yield agent.id


def queue_training(database: Database) -> str:
    """Queue a training on what was measured last; the job's id."""
    with database.write() as session:
        row = session.scalars(select(Measurement).order_by(Measurement.id.desc())).first()
        assert row is not None
        job = Job(kind="train", space_id=row.space_id, target_id=row.target_id)
        session.add(job)
        session.flush()
        return job.id


def predictors(database: Database) -> list[StoredPredictor]:
    with database.read() as session:
        return list(session.scalars(select(StoredPredictor).order_by(StoredPredictor.version)))


def attempts(database: Database) -> list[tuple[int, str]]:
    """Number and state of each attempt at a training."""
    chosen = select(Attempt).join(Job).where(Job.kind == "train").order_by(Attempt.number)
    with database.read() as session:
        return [(one.number, one.state) for one in session.scalars(chosen)]


def trainings(database: Database, state: str) -> list[Job]:
    with database.read() as session:
        return list(session.scalars(select(Job).where(Job.kind == "train", Job.state == state)))


def train(database: Database, job_id: str | None = None) -> str:
    """Publish the next version as a trainer would, on everything measured; its id."""
    with database.write() as session:
        rows = session.scalars(select(Measurement)).all()
        job = session.get(Job, job_id) if job_id else Job(kind="train")
        assert job is not None
        job.space_id = rows[0].space_id
        job.target_id = rows[0].target_id
        job.state = "done"
        session.add(job)
        session.flush()
        sidecar = fake_predictor.sidecar(rows[0].space_id, "f" * 64)
        ids = [row.id for row in rows]
        return service.publish(session, job, fake_predictor.artifact(), sidecar, ids).id
