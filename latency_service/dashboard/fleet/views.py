"""What pages of devices show, read for a page of them at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from latency_service.dashboard.fleet import queries as fleet_queries
from latency_service.dashboard.fleet.health import Condition, Finding, findings
from latency_service.dashboard.fleet.queries import Pace
from latency_service.devices import repository as devices_repository
from latency_service.devices import service as devices_service
from latency_service.devices.models import Agent, Device
from latency_service.devices.schemas import DeviceView, TargetView
from latency_service.jobs import repository as jobs_repository
from latency_service.measurements import repository as measurements_repository
from latency_service.predictors import repository as predictors_repository
from latency_service.settings import Settings


class DeviceRow(BaseModel):
    """A device in the list."""

    name: str
    state: str = Field(description="quarantined, offline, idle or measuring")
    chip: str | None
    runtimes: list[str] = Field(description="runtimes that it was measured with")
    onnxruntime: str | None
    clock: str | None = Field(description="governor of the clock")
    last_seen_at: datetime | None
    waiting_jobs: int
    wait_seconds: float | None = Field(
        description="jobs waiting times the mean time of an attempt within 24 hours"
    )
    measurements: int
    predictors: int
    findings: list[Finding]


def device_rows(session: Session, settings: Settings, devices: Sequence[Device]) -> list[DeviceRow]:
    """Rows of a page of devices, with a fixed number of queries."""
    views = devices_service.show_devices(session, settings, devices)
    ids = [view.id for view in views]
    targets = [target.id for view in views for target in view.targets]
    waiting = jobs_repository.waiting_of_devices(session, ids)
    paces = fleet_queries.paces(session, ids)
    measured = measurements_repository.count_by_target(session, targets)
    trained = predictors_repository.count_by_target(session, targets)
    conditions = _conditions(devices_repository.agents_of(session, ids))
    return [
        _row(
            view,
            waiting.get(view.id, 0),
            paces.get(view.id),
            conditions[view.id],
            sum(measured.get(target.id, 0) for target in view.targets),
            sum(trained.get(target.id, 0) for target in view.targets),
        )
        for view in views
    ]


def state_of(view: DeviceView) -> str:
    """Quarantined, offline, or what the agent that was heard of last is doing."""
    if view.quarantine is not None:
        return "quarantined"
    if not view.online:
        return "offline"
    return next((agent.state for agent in view.agents if agent.online), "idle")


def newest_target(view: DeviceView) -> TargetView | None:
    """The target that was identified last, current ones first."""
    return max(view.targets, key=lambda one: (one.is_current, one.created_at), default=None)


def wait_seconds(waiting: int, pace: Pace | None) -> float | None:
    """How long until the last job that waits is done, when a device goes on as within a day."""
    if waiting == 0:
        return 0.0
    if pace is None or pace.mean_seconds is None:
        return None
    return waiting * pace.mean_seconds


def _conditions(agents: Sequence[Agent]) -> defaultdict[str | None, Condition]:
    """What the agent heard of last told about each device."""
    found: defaultdict[str | None, Condition] = defaultdict(Condition)
    for agent in reversed(agents):
        cores = agent.facts.get("cores")
        found[agent.device_id] = Condition(
            load=agent.load, temperature_c=agent.temperature_c, cores=cores
        )
    return found


def _row(
    view: DeviceView,
    waiting: int,
    pace: Pace | None,
    condition: Condition,
    measurements: int,
    predictors: int,
) -> DeviceRow:
    target = newest_target(view)
    facts = target.facts if target else {}
    agent = next(iter(view.agents), None)
    return DeviceRow(
        name=view.name,
        state=state_of(view),
        chip=facts.get("processor") or facts.get("accelerator"),
        runtimes=sorted({one.runtime.key for one in view.targets}),
        onnxruntime=agent.runtime_version if agent else None,
        clock=facts.get("governor"),
        last_seen_at=view.last_seen_at,
        waiting_jobs=waiting,
        wait_seconds=wait_seconds(waiting, pace),
        measurements=measurements,
        predictors=predictors,
        findings=findings(view, pace, condition),
    )
