"""What the pages of pruning runs show, while they go on and when they have ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypeVar

from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from latency_service.core.thinning import thinned
from latency_service.runs.models import Run
from latency_service.runs.schemas import HistoryEntry, RunSummary, RunVerification

Part = TypeVar("Part", bound=BaseModel)
#: Most entries of the history that a page shows; the JSON of the API has all.
MOST_ENTRIES = 1000
#: A running run whose client was not heard of for this long may have been stopped.
SILENT_SECONDS = 300.0


class RunRow(BaseModel):
    """A run in a list. Latencies in ms, accuracies in per cent."""

    id: str
    name: str
    method: str
    state: str = Field(description="running, failed, or the outcome: met, not met, undecided")
    phase: str | None
    device: str | None
    budget_ms: float
    latency_ms: float | None = Field(description="measured, of the delivered file")
    lower_ms: float | None = Field(description="of the 95 % interval")
    upper_ms: float | None
    accuracy: float | None
    dense_ms: float | None
    dense_accuracy: float | None
    created_at: datetime
    updated_at: datetime


class RunList(BaseModel):
    runs: list[RunRow]
    total: int


class Step(BaseModel):
    """An entry of the history at its step in the whole run."""

    at: int
    phase: str
    loss: float | None
    latency_ms: float | None = Field(description="predicted")
    accuracy: float | None
    widths: list[float] | None


class Phase(BaseModel):
    """A phase of training, in steps of the whole run."""

    name: str
    start: int
    end: int


class Verified(BaseModel):
    """One measurement of a whole file."""

    number: int
    stage: str
    device: str
    widths: list[int]
    predicted_ms: float | None
    latency_ms: float
    lower_ms: float
    upper_ms: float
    verdict: str
    error_percent: float | None = Field(description="of the prediction, signed")
    of_budget_percent: float
    measurement_id: str


class GroupChange(BaseModel):
    """A width group before and after, in channels."""

    name: str
    before: int
    after: int
    kept_percent: float


class LayerTime(BaseModel):
    """Where the milliseconds went."""

    name: str
    before_ms: float
    after_ms: float

    @property
    def saved_ms(self) -> float:
        return self.before_ms - self.after_ms


class RunPage(BaseModel):
    """One run."""

    summary: RunRow
    space_id: str
    space: str
    full_widths: list[int]
    groups: list[str]
    predictor_id: str | None
    done: int | None
    total: int | None
    seconds: float = Field(description="from its beginning until the client was last heard of")
    is_silent: bool = Field(description="running, but its client was not heard of for minutes")
    failure: str | None
    over_percent: float | None
    steps: list[Step]
    entries: int = Field(description="of the whole history")
    phases: list[Phase]
    verified: list[Verified]
    changes: list[GroupChange]
    layers: list[LayerTime]
    warnings: list[str]
    command: str | None
    timings_seconds: dict[str, float]
    versions: dict[str, str]


def row_of(run: Run) -> RunRow:
    summary = RunSummary.model_validate(run.summary or {})
    pruned = summary.pruned
    return RunRow(
        id=run.id,
        name=run.name,
        method=run.method,
        state=state_of(run.state, summary),
        phase=run.phase if run.state == "running" else None,
        device=summary.device,
        budget_ms=run.budget_ms,
        latency_ms=pruned.latency_ms,
        lower_ms=pruned.lower_ms,
        upper_ms=pruned.upper_ms,
        accuracy=pruned.accuracy,
        dense_ms=summary.dense.latency_ms or run.dense_ms,
        dense_accuracy=(
            run.dense_accuracy if summary.dense.accuracy is None else summary.dense.accuracy
        ),
        created_at=run.created_at,
        updated_at=run.updated_at,
    )


def state_of(state: str, summary: RunSummary) -> str:
    """The state in one word: of a run with a result its outcome."""
    if state != "done" or summary.outcome is None:
        return state
    return "undecided" if summary.outcome == "not decided" else summary.outcome


def page_of(
    run: Run,
    space: tuple[str, Sequence[Mapping[str, Any]]],
    history: Sequence[Mapping[str, Any]],
    verifications: Sequence[Mapping[str, Any]],
    now: datetime,
) -> RunPage:
    """Everything about one run.

    Args:
        space: name and groups of its search space.
        now: the database's clock.
    """
    report = run.report or {}
    summary = RunSummary.model_validate(run.summary or {})
    steps, phases = timeline(history)
    until = run.updated_at
    return RunPage(
        summary=row_of(run),
        space_id=run.space_id,
        space=space[0],
        full_widths=[group["width"] for group in space[1]],
        groups=[group["name"] for group in space[1]],
        predictor_id=run.predictor_id,
        done=run.done,
        total=run.total,
        seconds=(until - run.created_at).total_seconds(),
        is_silent=run.state == "running" and (now - until).total_seconds() > SILENT_SECONDS,
        failure=run.failure,
        over_percent=summary.over_percent,
        steps=thinned(steps, MOST_ENTRIES),
        entries=len(history),
        phases=phases,
        verified=verified_of(verifications, run.budget_ms),
        changes=changes_of(report),
        layers=layers_of(report),
        warnings=_texts(report.get("warnings")),
        command=summary.command,
        timings_seconds=_numbers(report.get("timings_seconds")),
        versions=_strings(report.get("versions")),
    )


def timeline(history: Sequence[Mapping[str, Any]]) -> tuple[list[Step], list[Phase]]:
    """Entries at their step in the whole run, and its phases. Entries that are not of the form of
    the API are left out.
    """
    steps: list[Step] = []
    phases: list[Phase] = []
    for plain in history:
        entry = _entry(plain)
        if entry is None:
            continue
        if not phases or phases[-1].name != entry.phase:
            start = phases[-1].end if phases else 0
            phases.append(Phase(name=entry.phase, start=start, end=start))
        phase = phases[-1]
        phase.end = max(phase.end, phase.start + entry.step)
        steps.append(
            Step(
                at=phase.start + entry.step,
                phase=entry.phase,
                loss=entry.loss,
                latency_ms=entry.latency_ms,
                accuracy=entry.accuracy,
                widths=entry.widths,
            )
        )
    return steps, phases


def verified_of(verifications: Sequence[Mapping[str, Any]], budget_ms: float) -> list[Verified]:
    """Measurements of whole files in their order."""
    found: list[Verified] = []
    for plain in verifications:
        one = _parsed(RunVerification, plain)
        if one is None:
            continue
        found.append(
            Verified(
                number=len(found) + 1,
                stage=one.stage,
                device=one.device,
                widths=one.widths,
                predicted_ms=one.predicted_ms,
                latency_ms=one.latency_ms,
                lower_ms=one.lower_ms,
                upper_ms=one.upper_ms,
                verdict=one.verdict,
                error_percent=(
                    None
                    if one.predicted_ms is None
                    else 100 * (one.predicted_ms / one.latency_ms - 1)
                ),
                of_budget_percent=100 * one.latency_ms / budget_ms,
                measurement_id=one.measurement_id,
            )
        )
    return found


class _Width(BaseModel):
    name: str
    before: int
    after: int


def changes_of(report: Mapping[str, Any]) -> list[GroupChange]:
    """Widths before and after, in the order of the network."""
    found = [_parsed(_Width, plain) for plain in report.get("widths") or []]
    return [
        GroupChange(
            name=one.name,
            before=one.before,
            after=one.after,
            kept_percent=100 * one.after / one.before,
        )
        for one in found
        if one is not None
    ]


def layers_of(report: Mapping[str, Any]) -> list[LayerTime]:
    found = [_parsed(LayerTime, plain) for plain in report.get("layers") or []]
    return [one for one in found if one is not None]


def _entry(plain: Mapping[str, Any]) -> HistoryEntry | None:
    return _parsed(HistoryEntry, plain)


def _parsed(kind: type[Part], plain: Any) -> Part | None:
    """A part of a report, which a client wrote; None where it has another form."""
    try:
        return kind.model_validate(plain)
    except ValidationError:
        return None


def _texts(plain: Any) -> list[str]:
    return [str(text) for text in plain] if isinstance(plain, list) else []


def _numbers(plain: Any) -> dict[str, float]:
    try:
        return TypeAdapter(dict[str, float]).validate_python(plain or {})
    except ValidationError:
        return {}


def _strings(plain: Any) -> dict[str, str]:
    return {str(key): str(value) for key, value in plain.items()} if isinstance(plain, dict) else {}
