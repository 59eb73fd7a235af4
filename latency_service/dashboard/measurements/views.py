"""What the page of one measurement shows: its rounds, corrected as its summary was."""

from __future__ import annotations

import json
from datetime import datetime

from pydantic import BaseModel, Field
from sqlalchemy.orm import Session

from latency_service.core.errors import NotFound
from latency_service.dashboard.measurements import queries as measurement_queries
from latency_service.devices.models import Target
from latency_service.devices.schemas import RuntimeConfig
from latency_service.measurements import service as measurements_service
from latency_service.measurements.correction import FAR, correct
from latency_service.measurements.models import Measurement
from latency_service.measurements.schemas import (
    Calibration,
    MeasurementView,
    Protocol,
    Round,
)

CONTENDED = "other tasks were ready to run"
FAR_OFF = f"a canary was more than {100 * FAR:.0f} % off its floor"


class RoundRow(BaseModel):
    """One round as it was read and as it was corrected."""

    number: int
    at_seconds: float = Field(description="since the measuring process began")
    latency_ms: float = Field(description="as read")
    corrected_ms: float = Field(description="with the interference divided out")
    runs: int
    canary_percent: list[float] = Field(
        description="each canary around the round above its floor, per cent, fastest first"
    )
    quarantined: str | None = Field(description="why there is evidence against the round")
    disturbed: bool = Field(description="worthless: interrupted, or deprived of processor time")


class OneMeasurementView(BaseModel):
    """One measurement with all that belongs to it."""

    measurement: MeasurementView
    space: str
    space_groups: list[str]
    device: str
    runtime: RuntimeConfig
    target_current: bool
    protocol: Protocol
    calibration: Calibration
    stopped: str = Field(description="why no more rounds were added: precise, budget or rounds")
    rounds: list[RoundRow]
    runs: int = Field(description="timed runs in all rounds")
    repeat: list[str] = Field(description="commands that measure it again")
    versions: dict[str, str]
    measured_at: datetime


def read(session: Session, measurement_id: str) -> OneMeasurementView:
    """One measurement.

    Raises:
        NotFound: there is none of that id.
    """
    found = measurement_queries.measurement(session, measurement_id)
    if found is None:
        raise NotFound(
            f"There is no measurement {measurement_id!r}.",
            "List them with: latency-service measurements list",
        )
    row, space, device, target, job = found
    calibration = Calibration.model_validate(row.calibration)
    rounds = [Round.model_validate(one) for one in row.rounds]
    runtime = RuntimeConfig.model_validate(target.runtime)
    return OneMeasurementView(
        measurement=measurements_service.show(row),
        space=space.name,
        space_groups=[group["name"] for group in space.groups],
        device=device.name,
        runtime=runtime,
        target_current=target.is_current,
        protocol=Protocol.model_validate(job.protocol),
        calibration=calibration,
        stopped=row.stopped,
        rounds=round_rows(rounds, calibration),
        runs=sum(one.runs for one in rounds),
        repeat=repeat_commands(row, device.name, runtime),
        versions=_versions(target),
        measured_at=row.created_at,
    )


def round_rows(rounds: list[Round], calibration: Calibration) -> list[RoundRow]:
    """The rounds, each with its correction and the evidence against it."""
    if not rounds:
        return []
    corrected = correct(rounds, calibration)
    return [
        RoundRow(
            number=number,
            at_seconds=one.at_seconds,
            latency_ms=one.latency_ms,
            corrected_ms=float(corrected.latency_ms[number - 1]),
            runs=one.runs,
            canary_percent=_canary_percent(one, calibration),
            quarantined=_reason(one, is_quarantined=bool(corrected.quarantined[number - 1])),
            disturbed=one.disturbed is not None,
        )
        for number, one in enumerate(rounds, 1)
    ]


def repeat_commands(row: Measurement, device: str, runtime: RuntimeConfig) -> list[str]:
    """Commands that measure the same again."""
    options = _target_options(runtime)
    if row.widths is None:
        return [
            f"latency-service verifications create FILE.onnx --space {row.space_id[:12]} "
            f"--device {device}{options}"
        ]
    widths = json.dumps([row.widths], separators=(",", ":"))
    return [
        f"echo '{widths}' > widths.json",
        f"latency-service campaigns create --space {row.space_id[:12]} --device {device}{options} "
        "--widths widths.json --watch",
    ]


def _target_options(runtime: RuntimeConfig) -> str:
    usual = RuntimeConfig()
    named = {
        "provider": (runtime.provider, usual.provider),
        "threads": (runtime.intra_threads, usual.intra_threads),
        "batch": (runtime.batch, usual.batch),
        "precision": (runtime.precision, usual.precision),
    }
    return "".join(
        f" --target-{name} {value}" for name, (value, default) in named.items() if value != default
    )


def _canary_percent(one: Round, calibration: Calibration) -> list[float]:
    sides = zip(one.before_ms, one.after_ms, calibration.floor_ms, strict=True)
    return [100 * ((before + after) / 2 / floor - 1) for before, after, floor in sides]


def _reason(one: Round, *, is_quarantined: bool) -> str | None:
    if one.disturbed is not None:
        return one.disturbed
    if not is_quarantined:
        return None
    return CONTENDED if one.contenders > 0 else FAR_OFF


def _versions(target: Target) -> dict[str, str]:
    names = ("processor", "onnxruntime", "governor", "cores", "system", "machine", "accelerator")
    return {name: str(target.facts[name]) for name in names if target.facts.get(name) is not None}
