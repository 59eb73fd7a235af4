"""What may change about a published predictor: whether it is stale, and what has been measured.

Predictions are answered from memory, so this state is read again every few seconds, not for each
request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.orm import Session

from latency_service.measurements import repository as measurements_repository
from latency_service.measurements.repository import MeasuredState
from latency_service.predictors.models import StoredPredictor
from latency_service.predictors.schemas import cure_of_stale


@dataclass(frozen=True, kw_only=True)
class MeasuredLatency:
    """A measurement that answers instead of the predictor. Latencies in ms."""

    id: str
    latency_ms: float
    lower_ms: float
    upper_ms: float


@dataclass(frozen=True, kw_only=True)
class Freshness:
    """State of a predictor's target and measurements at the last look."""

    #: Cure, when the target has changed since the predictor was trained.
    cure: str | None
    #: Newest measurement of each architecture on the predictor's target, by its widths.
    measured: Mapping[tuple[float, ...], MeasuredLatency]
    #: State of the measurements: changes when there are new ones.
    state: MeasuredState


def look(session: Session, row: StoredPredictor, before: Freshness | None) -> Freshness:
    """The state now; measurements are read again only when they differ from `before`."""
    state = measurements_repository.measured_state(session, row.space_id, row.target_id)
    if before is not None and before.state == state:
        measured = before.measured
    else:
        measured = _measured(session, row)
    return Freshness(cure=cure_of(row), measured=measured, state=state)


def cure_of(row: StoredPredictor) -> str | None:
    """What to do when the target has changed since the predictor was trained; None otherwise."""
    if row.target.is_current:
        return None
    return cure_of_stale(row.space_id, row.target.device.name, row.target.runtime)


def _measured(session: Session, row: StoredPredictor) -> dict[tuple[float, ...], MeasuredLatency]:
    rows = measurements_repository.measured(session, row.space_id, row.target_id)
    return {
        tuple(widths): MeasuredLatency(id=found, latency_ms=latency, lower_ms=lower, upper_ms=upper)
        for found, widths, latency, lower, upper in rows
        if widths is not None
    }
