"""A published predictor, and prediction requests over HTTP."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from starlette.testclient import TestClient

from latency_service.agent.testing import FakeAgent
from latency_service.db.engine import Database
from latency_service.devices.models import Target
from latency_service.jobs.models import Job
from latency_service.predictors import service
from tests.support import fake_predictor


def publish(api: TestClient, database: Database, agent: FakeAgent, space_id: str) -> str:
    """A predictor of the tiny space on the agent's device; its id."""
    body = {"space_id": space_id, "device": agent.device, "purpose": "measure", "widths": [[8, 8]]}
    assert api.post("/v1/campaigns", json=body).status_code == 201
    agent.work()
    with database.write() as session:
        target = session.scalars(select(Target).where(Target.is_current)).one()
        job = Job(kind="train", state="done", space_id=space_id, target_id=target.id)
        session.add(job)
        session.flush()
        sidecar = fake_predictor.sidecar(space_id, target.fingerprint)
        return service.publish(session, job, fake_predictor.artifact(), sidecar).id


def predict(api: TestClient, predictor_id: str, body: Any) -> Any:
    return api.post(f"/v1/predictors/{predictor_id}/predict", json=body)
