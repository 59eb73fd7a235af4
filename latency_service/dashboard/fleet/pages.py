"""Pages of devices: the fleet, one device with its timeline, and adding a device."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any

from fastapi import Query, Request
from pydantic import BaseModel, Field
from sqlalchemy.orm import Session
from starlette.responses import Response

from latency_service.auth import service as auth_service
from latency_service.auth.access import check_scope
from latency_service.auth.audit import Audit
from latency_service.auth.schemas import EnrolmentRequest
from latency_service.dashboard import columns
from latency_service.dashboard.fleet import drift as drift_figure
from latency_service.dashboard.fleet import queries as fleet_queries
from latency_service.dashboard.fleet import timeline
from latency_service.dashboard.fleet.drift import Drift
from latency_service.dashboard.fleet.health import Finding
from latency_service.dashboard.fleet.timeline import AttemptRow
from latency_service.dashboard.fleet.views import DeviceRow, device_rows
from latency_service.dashboard.pages import Pages, html, page, viewer
from latency_service.dashboard.paging import count, whole
from latency_service.dashboard.signing_in import PostedForm
from latency_service.dashboard.tables import PAGE_ROWS, Column, Table
from latency_service.devices import repository as devices_repository
from latency_service.devices import service as devices_service
from latency_service.devices.schemas import AgentView, DeviceView, TargetView
from latency_service.jobs.models import Attempt
from latency_service.settings import Settings
from latency_service.web.deps import Config, ReadSession, WriteSession

pages = Pages()
#: Devices whose canaries the fleet's figure shows.
_DRAWN_DEVICES = 6
_DRAWN_OF_EACH = 100
#: Lengths of the timeline to choose from, hours.
HOURS = (1, 6, 24, 168)


class FleetView(BaseModel):
    """Devices by name."""

    total: int
    devices: list[DeviceRow]
    after: str | None = Field(description="name of the last device where others follow")
    findings: list[Finding]
    drift: list[Drift]


class OneDeviceView(BaseModel):
    """One device, what it did and how steady it is."""

    device: DeviceView
    row: DeviceRow
    hours: int = Field(description="length of the timeline")
    begin: datetime = Field(description="of what is drawn")
    now: datetime
    attempts: list[AttemptRow] = Field(description="newest first, those that are drawn")
    attempts_total: int = Field(description="of the whole time")
    drift: Drift


@pages.page("/devices", name="devices")
def fleet(
    request: Request,
    session: ReadSession,
    settings: Config,
    after: Annotated[str | None, Query(max_length=80)] = None,
) -> Response:
    """All devices."""
    return _fleet_page(request, session, settings, after)


def _fleet_page(
    request: Request, session: Session, settings: Settings, after: str | None
) -> Response:
    view = _fleet_view(session, settings, after)
    return page(request, "fleet.html", view, **_fleet_context(request, view, settings))


@pages.post("/devices/enrolments", name="enrol")
def enrol(
    request: Request, form: PostedForm, session: WriteSession, settings: Config, trail: Audit
) -> Response:
    """Make an enrolment token; the page shows it once, as a line to copy."""
    check_scope(viewer(request).principal, "admin")
    made = auth_service.enrol(session, settings, EnrolmentRequest())
    trail.record(session, "enrolment.create", made.id)
    token = made.token
    view = _fleet_view(session, settings, None)
    context = _fleet_context(request, view, settings) | {"view": view}
    return html(
        request, "fleet.html", {**context, "line": f"{_agent_line(request)} --token {token}"}
    )


@pages.page("/devices/{name}", name="device")
def device(
    request: Request,
    name: str,
    session: ReadSession,
    settings: Config,
    hours: Annotated[int, Query(ge=1, le=168)] = 6,
) -> Response:
    """One device."""
    view = _device_view(session, settings, name, hours)
    parts = timeline.spans(view.attempts, view.now)
    attempts = _attempt_table(view, 3600.0 * hours)
    return page(
        request,
        "device.html",
        view,
        tables=[attempts, _target_table(view), _agent_table(view.device)],
        lengths=HOURS,
        timeline={
            "figure": timeline.figure_of(parts, view.begin, view.now),
            "title": timeline.title_of(view.attempts, view.begin, view.now),
            "summary": timeline.summary_of(len(view.attempts), view.attempts_total),
        },
        drift=_drift_context([view.drift], drift_figure.of_canaries(view.drift)),
    )


def _fleet_view(session: Session, settings: Settings, after: str | None) -> FleetView:
    found = fleet_queries.devices_after(session, after)
    shown = found[:PAGE_ROWS]
    rows = device_rows(session, settings, shown)
    heard = [(one.last_seen_at, one) for one in shown if one.last_seen_at is not None]
    newest = sorted(heard, key=lambda pair: pair[0], reverse=True)
    drawn = [one for _, one in newest[:_DRAWN_DEVICES]]
    return FleetView(
        total=fleet_queries.count_devices(session),
        devices=rows,
        after=shown[-1].name if len(found) > PAGE_ROWS else None,
        findings=[finding for row in rows for finding in row.findings],
        drift=[drift_figure.read(session, one.id, one.name, _DRAWN_OF_EACH) for one in drawn],
    )


def _fleet_context(request: Request, view: FleetView, settings: Settings) -> dict[str, Any]:
    return {
        "tables": [_device_table(view, settings), _finding_table(view.findings)],
        "drift": _drift_context(view.drift, drift_figure.of_devices(view.drift)),
        "line": "",
        "server": _server(request),
    }


def _drift_context(drifts: Sequence[Drift], figure: dict[str, Any]) -> dict[str, Any] | None:
    known = [drift for drift in drifts if drift.points]
    if not known:
        return None
    return {
        "figure": figure,
        "title": drift_figure.title_of(known),
        "summary": drift_figure.SUMMARY,
        "table": drift_figure.table_of(known[0]),
    }


def _device_view(session: Session, settings: Settings, name: str, hours: int) -> OneDeviceView:
    found = devices_service.get_device(session, name)
    now = devices_repository.now(session)
    selected = fleet_queries.attempts_since(found.id, 3600.0 * hours)
    newest = selected.order_by(Attempt.leased_at.desc()).limit(timeline.DRAWN)
    attempts = timeline.attempt_rows(session.execute(newest).all())
    total = count(session, selected)
    begin = now - timedelta(hours=hours)
    return OneDeviceView(
        device=devices_service.show_devices(session, settings, [found])[0],
        row=device_rows(session, settings, [found])[0],
        hours=hours,
        begin=begin if total == len(attempts) else attempts[-1].leased_at,
        now=now,
        attempts=attempts,
        attempts_total=total,
        drift=drift_figure.read(session, found.id, name),
    )


def _server(request: Request) -> str:
    return str(request.base_url).rstrip("/")


def _agent_line(request: Request) -> str:
    return f"latency-service agent --server {_server(request)}"


def _device_table(view: FleetView, settings: Settings) -> Table[DeviceRow]:
    return Table(
        caption="Devices",
        rows=view.devices,
        total=view.total,
        columns=[
            Column(
                head="device",
                cell=lambda row: row.name,
                link=lambda row: ("device", {"name": row.name}),
            ),
            Column(head="state", cell=lambda row: row.state, kind="state"),
            Column(head="last seen", cell=lambda row: row.last_seen_at, kind="time"),
            Column(head="waiting", unit="jobs", cell=lambda row: row.waiting_jobs, kind="count"),
            Column(
                head="wait",
                cell=lambda row: row.wait_seconds,
                kind="duration",
                meaning="jobs waiting times the mean time of an attempt within 24 hours",
            ),
            Column(head="measured", cell=lambda row: row.measurements, kind="count"),
            Column(head="predictors", cell=lambda row: row.predictors, kind="count"),
            Column(head="chip", cell=lambda row: row.chip),
            Column(head="clock", cell=lambda row: row.clock),
            Column(head="ONNX Runtime", cell=lambda row: row.onnxruntime),
        ],
        empty="No device yet. This machine becomes one with:",
        command="latency-service up",
        every=lambda session: device_rows(session, settings, devices_repository.devices(session)),
    )


def _finding_table(rows: Sequence[Finding]) -> Table[Finding]:
    return Table(
        caption="What to mend",
        is_titled=True,
        rows=rows,
        columns=[
            columns.device(lambda row: row.device),
            Column(head="what", cell=lambda row: row.check),
            Column(head="found", cell=lambda row: row.found, kind="prose"),
            Column(head="cure", cell=lambda row: row.cure, kind="prose"),
        ],
        empty="Nothing: every device is heard of, steady and current.",
    )


def _attempt_table(view: OneDeviceView, seconds: float) -> Table[AttemptRow]:
    def every(session: Session) -> Iterable[AttemptRow]:
        selected = fleet_queries.attempts_since(view.device.id, seconds)
        rows = whole(session, selected, Attempt.leased_at)
        return (timeline.attempt_row(row) for row in rows)

    return Table(
        caption="Attempts, newest first",
        rows=view.attempts,
        total=view.attempts_total,
        columns=[
            columns.job(lambda row: row.job_id, lambda row: row.kind),
            Column(head="state", cell=lambda row: row.state, kind="state"),
            Column(head="leased", cell=lambda row: row.leased_at, kind="time"),
            Column(head="took", cell=lambda row: row.seconds, kind="duration"),
            Column(head="measuring", cell=lambda row: row.wall_seconds, kind="duration"),
            Column(head="timed", cell=lambda row: row.timed_seconds, kind="duration"),
            Column(head="failure", cell=lambda row: row.failure_kind),
        ],
        empty="No attempt in this time.",
        every=every,
    )


def _target_table(view: OneDeviceView) -> Table[TargetView]:
    return Table(
        caption="Targets: the device with a runtime, as its fingerprint tells them apart",
        rows=list(reversed(view.device.targets)),
        columns=[
            Column(head="runtime", cell=lambda row: row.runtime.key),
            Column(
                head="state",
                cell=lambda row: "current" if row.is_current else "stale",
                kind="state",
            ),
            Column(head="fingerprint", cell=lambda row: row.fingerprint[:12], kind="code"),
            Column(
                head="canaries",
                unit="ms",
                cell=lambda row: ", ".join(f"{ms:.3g}" for ms in row.canary_ms),
                meaning="lowest calibration of each",
            ),
            Column(head="since", cell=lambda row: row.created_at, kind="time"),
        ],
        empty="No target yet: it appears with the device's first measurement.",
    )


def _agent_table(view: DeviceView) -> Table[AgentView]:
    return Table(
        caption="Agents, last seen first",
        is_titled=True,
        rows=view.agents,
        columns=[
            Column(head="agent", cell=lambda row: row.id, kind="code"),
            Column(
                head="state", cell=lambda row: row.state if row.online else "offline", kind="state"
            ),
            Column(head="last seen", cell=lambda row: row.last_seen_at, kind="time"),
            Column(head="version", cell=lambda row: row.agent_version),
            Column(head="ONNX Runtime", cell=lambda row: row.runtime_version),
            Column(head="providers", cell=lambda row: ", ".join(row.providers)),
        ],
        empty="No agent has registered.",
    )
