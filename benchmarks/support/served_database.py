"""The database that the serving benchmark serves: one predictor and its measurements."""

from __future__ import annotations

from typing import TypeVar

from sqlalchemy.orm import Session

from benchmarks.support.networks import resnet20
from benchmarks.support.predictors import made_up_set
from latency_service.db.base import Base, utcnow
from latency_service.db.engine import Database
from latency_service.db.migrate import upgrade
from latency_service.devices.models import Agent, Device, Target
from latency_service.devices.schemas import Fingerprint, RuntimeConfig
from latency_service.jobs.models import Attempt, Job
from latency_service.measurements.models import Measurement
from latency_service.predictors.service import publish
from latency_service.settings import Settings
from latency_service.spaces import service as spaces_service
from latency_service.spaces.slicing import SearchSpace
from latency_service.training.pipeline import TrainingSet, train
from pruning_client.graph.space import make_space

Row = TypeVar("Row", bound=Base)


def published_predictor(settings: Settings) -> tuple[str, list[int], list[int]]:
    """Create a database with one published predictor and its training measurements.

    Returns:
        The predictor's id, widths that were not measured, and widths that were.
    """
    upgrade(settings)
    space = served_space()
    data = made_up_set(space)
    trained = train(data)
    database = Database(settings.url)
    with database.write() as session:
        spaces_service.store(session, spaces_service.describe(space))
        target = _target(session)
        job = _added(
            session, Job(kind="train", state="done", space_id=space.id, target_id=target.id)
        )
        predictor_id = publish(session, job, trained.artifact, trained.sidecar).id
        _keep_measured(session, job, target.device_id, data)
    database.dispose()
    return predictor_id, [width - 1 for width in space.full_widths], data.widths[0].tolist()


def served_space() -> SearchSpace:
    """The search space of ResNet-20."""
    model, example = resnet20()
    return make_space(model, example, name="resnet20").space


def _target(session: Session) -> Target:
    runtime = RuntimeConfig()
    fingerprint = Fingerprint(runtime=runtime, facts={"benchmark": "serving"})
    device = _added(session, Device(name="benchmark"))
    return _added(
        session,
        Target(
            device_id=device.id,
            fingerprint=fingerprint.digest,
            runtime_key=runtime.key,
            runtime=runtime.model_dump(),
            facts=fingerprint.facts,
            context={},
            canaries=[],
            canary_ms=[],
            is_current=True,
        ),
    )


def _added(session: Session, row: Row) -> Row:
    """A stored row, with its id."""
    session.add(row)
    session.flush()
    return row


def _keep_measured(session: Session, job: Job, device_id: str, data: TrainingSet) -> None:
    """The training set as measurements of one attempt."""
    agent = _added(
        session,
        Agent(
            kind="device",
            device_id=device_id,
            agent_version="",
            runtime_version="",
            max_opset=0,
            providers=[],
            facts={},
        ),
    )
    attempt = _added(
        session,
        Attempt(job_id=job.id, agent_id=agent.id, number=1, state="done", expires_at=utcnow()),
    )
    pairs = zip(data.widths.tolist(), data.latency_ms.tolist(), strict=True)
    session.add_all(
        _measurement(job, attempt, position, widths, latency)
        for position, (widths, latency) in enumerate(pairs)
    )


def _measurement(
    job: Job, attempt: Attempt, position: int, widths: list[int], latency_ms: float
) -> Measurement:
    return Measurement(
        space_id=job.space_id,
        target_id=job.target_id,
        job_id=job.id,
        attempt_id=attempt.id,
        position=position,
        widths=widths,
        counted=True,
        latency_ms=latency_ms,
        lower_ms=latency_ms,
        upper_ms=latency_ms,
        naive_ms=latency_ms,
        verdict="ok",
        trainable=True,
        quiet_share=1.0,
        quarantined_share=0.0,
        rounds_used=15,
        stopped="precise",
        calibration={},
        rounds=[],
    )
