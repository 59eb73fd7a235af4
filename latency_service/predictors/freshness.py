"""What may change about a predictor after it was published: whether it is stale, and what has been
measured.

Predictions are answered from memory, so these facts are read again every few seconds instead of for
each request.
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
class Known:
    """A measurement that answers instead of the predictor. Latencies in ms."""

    id: str
    latency_ms: float
    lower_ms: float
    upper_ms: float


@dataclass(frozen=True, kw_only=True)
class Facts:
    """As they were at the last look."""

    #: what to do, when the target has changed since the predictor was trained
    cure: str | None
    #: the newest measurement of each architecture on the predictor's target, by its widths
    measured: Mapping[tuple[float, ...], Known]
    #: tells whether there are new ones
    state: MeasuredState


def look(session: Session, row: StoredPredictor, before: Facts | None) -> Facts:
    """The facts now; measurements are read again only when there are others than `before`."""
    target = row.target
    cure = (
        None
        if target.is_current
        else cure_of_stale(row.space_id, target.device.name, target.runtime)
    )
    state = measurements_repository.measured_state(session, row.space_id, row.target_id)
    if before is not None and before.state == state:
        return Facts(cure=cure, measured=before.measured, state=state)
    measured: dict[tuple[float, ...], Known] = {
        tuple(widths): Known(id=found, latency_ms=latency, lower_ms=lower, upper_ms=upper)
        for found, widths, latency, lower, upper in measurements_repository.measured(
            session, row.space_id, row.target_id
        )
        if widths is not None
    }
    return Facts(cure=cure, measured=measured, state=state)
