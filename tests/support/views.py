"""What the service answers, built from the wire schemas, so that a changed contract breaks the
tests.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from latency_service.campaigns.schemas import CampaignView
from latency_service.devices.schemas import AgentView, DeviceView, RuntimeConfig, TargetView
from latency_service.jobs.schemas import AttemptView, Failure, JobView
from latency_service.lattices.schemas import KindLattice, Lattice, LatticePoint, LatticeView
from latency_service.measurements.schemas import MeasurementView, Round, Summary
from latency_service.predictors.schemas import ModelErrors, PredictorView, Sidecar
from latency_service.runs.schemas import RunSummary, RunView
from latency_service.spaces.schemas import SpaceView, WidthGroup

NOW = datetime(2025, 6, 1, 12, 30, 15, tzinfo=UTC)
SPACE = "ab" * 32


def device() -> dict[str, Any]:
    agent = AgentView(
        id="agent-1",
        agent_version="0.1.0",
        runtime_version="1.20.0",
        providers=["CPUExecutionProvider"],
        state="idle",
        online=True,
        last_seen_at=NOW,
    )
    target = TargetView(
        id="target-1",
        fingerprint="f" * 64,
        runtime=RuntimeConfig(),
        facts={},
        canary_ms=[0.1, 0.4, 0.9],
        created_at=NOW,
    )
    view = DeviceView(
        id="device-1",
        name="board",
        online=True,
        created_at=NOW,
        last_seen_at=NOW,
        agents=[agent],
        targets=[target],
    )
    return view.model_dump(mode="json")


def space() -> dict[str, Any]:
    group = WidthGroup(name="stem", width=64, minimum=4, members=["conv1"])
    view = SpaceView(
        id=SPACE,
        name="resnet",
        groups=[group],
        opset=18,
        inputs={"input": ["batch", 3, 32, 32]},
        bytes=20_000,
        parameters=270_000,
        macs=41_000_000,
        created_at=NOW,
    )
    return view.model_dump(mode="json")


def campaign(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "id": "campaign-1",
        "space_id": SPACE,
        "device_id": "device-1",
        "device": "board",
        "runtime": RuntimeConfig(),
        "purpose": "predictor",
        "state": "running",
        "phase": "measuring",
        "jobs_total": 8,
        "jobs_done": 2,
        "jobs_failed": 0,
        "architectures_total": 120,
        "architectures_measured": 32,
        "created_at": NOW,
        "finished_at": None,
        "predictor_id": None,
        "failure": None,
    }
    return CampaignView(**(fields | changes)).model_dump(mode="json")


def measurement() -> dict[str, Any]:
    summary = Summary(
        latency_ms=1.25,
        lower_ms=1.24,
        upper_ms=1.26,
        naive_ms=1.4,
        verdict="ok",
        trainable=True,
        quiet_share=0.5,
        rounds_used=12,
    )
    one = Round(at_seconds=0.5, latency_ms=1.3, runs=8, before_ms=[0.1, 0.4], after_ms=[0.1, 0.41])
    view = MeasurementView(
        id="measurement-1",
        space_id=SPACE,
        target_id="target-1",
        campaign_id="campaign-1",
        job_id="job-1",
        attempt_id="attempt-1",
        widths=[16, 32],
        model_sha256=None,
        counted=True,
        created_at=NOW,
        summary=summary,
        rounds=[one],
    )
    return view.model_dump(mode="json")


def predictor() -> dict[str, Any]:
    rivals = [
        ModelErrors(
            name=name,
            mape=mape,
            p90=9.0,
            within_5=20.0,
            within_10=45.0,
            spearman=0.9,
            differentiable=True,
        )
        for name, mape in (("flops-line", 14.1), ("lpnet", 3.9))
    ]
    sidecar = Sidecar(
        space_id=SPACE,
        fingerprint="f" * 64,
        model="lpnet",
        measurements=120,
        measurements_sha256="0" * 64,
        mape=3.9,
        repeat_difference=2.7,
        rivals=rivals,
        interval_coverage=0.91,
        groups=["stem", "block"],
        full_widths=[16, 32],
        minimum_widths=[4, 4],
        lattice=[[4, 8, 12, 16], [8, 16, 24, 32]],
        dense_ms=1.5,
        lowest_ms=0.4,
        trained_seconds=12.0,
        versions={"torch": "2"},
    )
    view = PredictorView(
        id="predictor-1",
        space_id=SPACE,
        target_id="target-1",
        device="board",
        runtime=RuntimeConfig(),
        version=3,
        stale=False,
        created_at=NOW,
        artifact_sha256="1" * 64,
        sidecar=sidecar,
    )
    return view.model_dump(mode="json")


def lattice() -> dict[str, Any]:
    points = [
        LatticePoint(width=w, latency_ms=1.0, lower_ms=0.9, upper_ms=1.1, dominated=w % 4 != 0)
        for w in range(8, 13)
    ]
    view = LatticeView(
        id="lattice-1",
        target_id="target-1",
        device="board",
        version=1,
        created_at=NOW,
        lattice=Lattice(kinds=[KindLattice(kind="conv3x3", step=4, points=points)]),
    )
    return view.model_dump(mode="json")


def job(state: str = "done") -> dict[str, Any]:
    attempt = AttemptView(
        id="attempt-1",
        number=1,
        agent_id="agent-1",
        state="done" if state == "done" else "failed",
        leased_at=NOW,
        expires_at=NOW,
        finished_at=NOW,
        wall_seconds=2.0,
        timed_seconds=1.5,
        failure_kind=None if state == "done" else "model_invalid",
        message=None,
    )
    view = JobView.model_validate(
        {
            "id": "job-1",
            "kind": "verify",
            "state": state,
            "device_id": "device-1",
            "campaign_id": None,
            "created_at": NOW,
            "finished_at": NOW,
            "attempts": [] if state == "queued" else [attempt],
            "result": {"measurement_ids": ["measurement-1"]} if state == "done" else None,
            "failure": Failure(kind="model_invalid", message="Node 3 is wrong.")
            if state == "failed"
            else None,
        }
    )
    return view.model_dump(mode="json")


def run() -> dict[str, Any]:
    view = RunView(
        id="run-1",
        name="demo",
        method="w-gates",
        space_id=SPACE,
        predictor_id="predictor-1",
        budget_ms=0.6,
        report={"met": True, "dense": {"latency_ms": 1.0}},
        state="done",
        summary=RunSummary(outcome="met"),
        created_at=NOW,
        updated_at=NOW,
    )
    return view.model_dump(mode="json")
