"""What the pages of targets show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from latency_service.dashboard.places import Place, place_of
from latency_service.dashboard.predictors.views import PredictorRow
from latency_service.devices.models import Target
from latency_service.lattices.models import StoredLattice
from latency_service.lattices.schemas import KindLattice, Lattice, LatticePoint


class TargetRow(BaseModel):
    """A target in a list."""

    id: str
    place: Place
    state: str = Field(description="current or stale")
    generation: int
    measurements: int
    predictors: int
    created_at: datetime


class TargetList(BaseModel):
    """Targets, newest first."""

    targets: list[TargetRow]
    total: int
    older: str | None = Field(description="`before` of the next page")
    device: str | None


class Fact(BaseModel):
    """What is known of a target, and what it is on the current one where it differs."""

    name: str
    value: str
    now: str | None = Field(None, description="value of the current target, where it differs")


class Canary(BaseModel):
    """A fixed network that is measured beside others, to show interference."""

    name: str
    floor_ms: float


class Sweep(BaseModel):
    """Latency against width of one kind of layer."""

    kind: str
    step: int = Field(description="beyond the widest width measured its multiples are worth using")
    points: list[LatticePoint]
    worthwhile: int
    dominated: int
    costliest: LatticePoint | None = Field(
        description="the dominated width that is slowest beside a wider one"
    )
    waste_percent: float | None = Field(description="by how much it is slower than that one")
    better_width: int | None = Field(description="the wider and faster width")


class SpaceCount(BaseModel):
    """Measurements of one space on the target."""

    space_id: str
    space: str
    measurements: int


class LatticeVersion(BaseModel):
    version: int
    id: str
    created_at: datetime


class TargetPage(BaseModel):
    """One target."""

    id: str
    place: Place
    state: str
    generation: int
    created_at: datetime
    facts: list[Fact]
    context: list[Fact]
    canaries: list[Canary]
    lattice_version: int | None
    versions: list[LatticeVersion]
    sweeps: list[Sweep]
    measured: list[SpaceCount]
    predictors: list[PredictorRow]
    predictor_count: int
    current_id: str | None = Field(description="the target of the same device and runtime now")


def row_of(target: Target, measurements: int, predictors: int) -> TargetRow:
    return TargetRow(
        id=target.id,
        place=place_of(target),
        state=state_of(target),
        generation=target.generation,
        measurements=measurements,
        predictors=predictors,
        created_at=target.created_at,
    )


def state_of(target: Target) -> str:
    return "current" if target.is_current else "stale"


def facts_of(facts: Mapping[str, Any], now: Mapping[str, Any] | None) -> list[Fact]:
    """Facts by name, with what differs on the current target."""
    names = sorted({*facts, *(now or {})})
    return [_fact(name, facts, now) for name in names]


def _fact(name: str, facts: Mapping[str, Any], now: Mapping[str, Any] | None) -> Fact:
    value = _text(facts.get(name))
    present = None if now is None else _text(now.get(name))
    return Fact(name=name, value=value, now=None if present == value else present)


def _text(value: Any) -> str:
    if value is None:
        return "not known"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(_text(part) for part in value)
    return str(value)


def sweeps_of(lattice: Lattice) -> list[Sweep]:
    return [sweep_of(entry) for entry in lattice.kinds]


def sweep_of(entry: KindLattice) -> Sweep:
    """A sweep with its most wasteful width."""
    wasteful = [(_waste(point, entry.points), point) for point in entry.points if point.dominated]
    found = max(wasteful, key=lambda pair: pair[0][0], default=None)
    dominated = sum(point.dominated for point in entry.points)
    return Sweep(
        kind=entry.kind,
        step=entry.step,
        points=entry.points,
        worthwhile=len(entry.points) - dominated,
        dominated=dominated,
        costliest=None if found is None else found[1],
        waste_percent=None if found is None else found[0][0],
        better_width=None if found is None else found[0][1],
    )


def _waste(point: LatticePoint, points: Sequence[LatticePoint]) -> tuple[float, int]:
    """By how many per cent the fastest wider width beats this one, and which that is."""
    wider = [other for other in points if other.width > point.width]
    best = min(wider, key=lambda other: other.latency_ms, default=point)
    return 100 * (point.latency_ms / best.latency_ms - 1), best.width


def page_of(
    target: Target,
    current: Target | None,
    lattices: Sequence[StoredLattice],
    shown: StoredLattice | None,
    measured: Sequence[SpaceCount],
    predictors: Sequence[PredictorRow],
    predictor_count: int,
) -> TargetPage:
    """Everything about one target; `current` is the present one of its device and runtime."""
    other = current if current is not None and current.id != target.id else None
    lattice = None if shown is None else Lattice.model_validate(shown.lattice)
    return TargetPage(
        id=target.id,
        place=place_of(target),
        state=state_of(target),
        generation=target.generation,
        created_at=target.created_at,
        facts=facts_of(target.facts, None if other is None else other.facts),
        context=facts_of(target.context, None),
        canaries=[
            Canary(name=name, floor_ms=ms)
            for name, ms in zip(target.canaries, target.canary_ms, strict=False)
        ],
        lattice_version=None if shown is None else shown.version,
        versions=[
            LatticeVersion(version=row.version, id=row.id, created_at=row.created_at)
            for row in lattices
        ],
        sweeps=[] if lattice is None else sweeps_of(lattice),
        measured=list(measured),
        predictors=list(predictors),
        predictor_count=predictor_count,
        current_id=None if other is None else other.id,
    )
