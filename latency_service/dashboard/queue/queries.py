"""SQL of the pages of the queue and its jobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from latency_service.dashboard.rows import AnyRow, AnySelect
from latency_service.devices.models import Agent, Device
from latency_service.jobs.models import Attempt, Job


def listed(state: str, device_id: str | None) -> AnySelect:
    """(id, kind, state, device, campaign, phase, priority, attempts used, failure kind, message,
    created, finished) of the jobs in a state, of one device or of all.
    """
    chosen = (
        select(
            Job.id,
            Job.kind,
            Job.state,
            Device.name.label("device"),
            Job.campaign_id,
            Job.stage,
            Job.priority,
            Job.attempts_used,
            Job.failure_kind,
            Job.failure_message,
            Job.created_at,
            Job.finished_at,
        )
        .outerjoin(Device, Device.id == Job.device_id)
        .where(Job.state == state)
    )
    return chosen if device_id is None else chosen.where(Job.device_id == device_id)


def oldest_waiting(session: Session, device_id: str | None) -> Any:
    """When the job that waits longest was created."""
    chosen = select(func.min(Job.created_at)).where(Job.state == "queued")
    if device_id is not None:
        chosen = chosen.where(Job.device_id == device_id)
    return session.scalar(chosen)


def under_way(session: Session, device_id: str | None, limit: int) -> Sequence[AnyRow]:
    """Open attempts, longest first: (job, kind, device, agent, attempt number, leased, expires)."""
    chosen = (
        select(
            Job.id,
            Job.kind,
            Device.name,
            Agent.id,
            Attempt.number,
            Attempt.leased_at,
            Attempt.expires_at,
        )
        .join(Job, Job.id == Attempt.job_id)
        .join(Agent, Agent.id == Attempt.agent_id)
        .outerjoin(Device, Device.id == Agent.device_id)
        .where(Attempt.state == "open")
    )
    if device_id is not None:
        chosen = chosen.where(Agent.device_id == device_id)
    return session.execute(chosen.order_by(Attempt.leased_at).limit(limit)).all()


def device_of(session: Session, device_id: str | None) -> str | None:
    return session.scalar(select(Device.name).where(Device.id == device_id))
