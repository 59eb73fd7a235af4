"""The page of two targets against each other."""

from __future__ import annotations

from fastapi import Request
from pydantic import BaseModel
from sqlalchemy.orm import Session
from starlette.responses import Response

from latency_service.dashboard.pages import Pages, page
from latency_service.dashboard.places import place_of
from latency_service.dashboard.tables import Column, Table
from latency_service.dashboard.targets import figures
from latency_service.dashboard.targets.agreement import (
    LEAST_SHARED,
    Agreement,
    Compared,
    Widths,
    agreement_of,
    predicted_on_both,
    shared,
)
from latency_service.dashboard.targets.pages import known_target
from latency_service.dashboard.targets.views import TargetRow, row_of
from latency_service.devices import repository
from latency_service.devices.models import Target
from latency_service.measurements import repository as measurements_repository
from latency_service.predictors import repository as predictors_repository
from latency_service.predictors.serving import Loaded, Predictors
from latency_service.spaces import service as spaces_service
from latency_service.web.deps import ReadSession

pages = Pages()
#: Targets in the form.
_MOST_CHOICES = 200


class SpaceChoice(BaseModel):
    id: str
    name: str


class Comparing(BaseModel):
    """Two targets, or what there is to choose from."""

    targets: list[TargetRow]
    spaces: list[SpaceChoice]
    first: str | None
    second: str | None
    space: str | None
    agreement: Agreement | None


@pages.page("/compare-targets", name="compare-targets")
def compare_targets(
    request: Request,
    session: ReadSession,
    first: str | None = None,
    second: str | None = None,
    space: str | None = None,
) -> Response:
    """Whether two targets rank the architectures of a space alike."""
    agreement = None
    if first and second and space:
        agreement = _agreement(request, session, first, second, space)
    view = Comparing(
        targets=[row_of(target, 0, 0) for target in _choices(session, first, second)],
        spaces=_spaces(session),
        first=first,
        second=second,
        space=space,
        agreement=agreement,
    )
    compared = [] if agreement is None else agreement.compared
    figure = figures.beside(agreement) if agreement and len(compared) > 1 else None
    return page(
        request,
        "compare-targets.html",
        view,
        tables=[compared_table(compared, "Architectures on both targets")],
        figure_json=figure,
        disagreeing=compared_table(
            [] if agreement is None else agreement.disagreeing, "Where they disagree most"
        ),
    )


def compared_table(rows: list[Compared], caption: str) -> Table[Compared]:
    return Table(
        caption=caption,
        columns=[
            Column(head="widths", cell=lambda row: " ".join(str(width) for width in row.widths)),
            Column(head="first", unit="ms", cell=lambda row: row.first_ms, kind="number", digits=4),
            Column(
                head="second", unit="ms", cell=lambda row: row.second_ms, kind="number", digits=4
            ),
            Column(head="rank on the first", cell=lambda row: row.first_rank, kind="number"),
            Column(head="rank on the second", cell=lambda row: row.second_rank, kind="number"),
            Column(head="ranks moved", cell=lambda row: row.moved, kind="number"),
        ],
        rows=rows,
        empty="No architecture is known on both targets.",
    )


def _choices(session: Session, *chosen: str | None) -> list[Target]:
    """Targets to choose from; those that were chosen are always among them."""
    listed = list(repository.all_targets(session, _MOST_CHOICES))
    others = {target_id for target_id in chosen if target_id} - {target.id for target in listed}
    return listed + [known_target(session, target_id) for target_id in sorted(others)]


def _spaces(session: Session) -> list[SpaceChoice]:
    names = measurements_repository.measured_spaces(session)
    found = [SpaceChoice(id=space_id, name=name) for space_id, name in names.items()]
    return sorted(found, key=lambda choice: choice.name)


def _agreement(
    request: Request, session: Session, first: str, second: str, space: str
) -> Agreement:
    """By shared measurements where there are enough, else by both predictors."""
    row = spaces_service.get_space(session, space)
    targets = (known_target(session, first), known_target(session, second))
    latencies = [_latencies(session, row.id, target) for target in targets]
    both = shared(*latencies)
    places = (place_of(targets[0]), place_of(targets[1]))
    loaded = [_loaded(request, session, row.id, target) for target in targets]
    if len(both) >= LEAST_SHARED or loaded[0] is None or loaded[1] is None:
        return agreement_of((row.id, row.name), places, both, "measured")
    known = list(dict.fromkeys([*latencies[0], *latencies[1]]))
    predicted = predicted_on_both(known, loaded[0], loaded[1])
    return agreement_of((row.id, row.name), places, predicted, "predicted")


def _latencies(session: Session, space_id: str, target: Target) -> dict[Widths, float]:
    """Newest measured latency of each architecture, ms."""
    rows = measurements_repository.measured(session, space_id, target.id)
    return {tuple(row[1]): row[2] for row in rows if row[1] is not None}


def _loaded(request: Request, session: Session, space_id: str, target: Target) -> Loaded | None:
    found = predictors_repository.newest(session, space_id, target.id)
    predictors: Predictors = request.app.state.predictors
    return None if found is None else predictors.load(found.id).loaded
