"""Pages of targets: the list, one with its sawtooth, and two against each other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated

from fastapi import Query, Request
from sqlalchemy.orm import Session
from starlette.responses import Response

from latency_service.core.errors import NotFound
from latency_service.dashboard import columns
from latency_service.dashboard.pages import Pages, page
from latency_service.dashboard.paging import count, newest_page
from latency_service.dashboard.predictors import tables as predictor_tables
from latency_service.dashboard.predictors.views import row_of as predictor_row
from latency_service.dashboard.tables import PAGE_ROWS, Column, Table
from latency_service.dashboard.targets import figures
from latency_service.dashboard.targets.views import (
    SpaceCount,
    Sweep,
    TargetList,
    TargetPage,
    TargetRow,
    page_of,
    row_of,
)
from latency_service.devices import repository
from latency_service.devices.models import Target
from latency_service.lattices import repository as lattices_repository
from latency_service.lattices.models import StoredLattice
from latency_service.lattices.schemas import LatticePoint
from latency_service.measurements import repository as measurements_repository
from latency_service.predictors import repository as predictors_repository
from latency_service.predictors.repository import Chosen
from latency_service.spaces import repository as spaces_repository
from latency_service.web.deps import ReadSession

pages = Pages()


@pages.page("/targets", name="targets")
def target_list(
    request: Request,
    session: ReadSession,
    device: Annotated[str | None, Query(max_length=80)] = None,
    before: Annotated[str | None, Query(max_length=64)] = None,
) -> Response:
    """Every target that a device has been, newest first."""
    chosen = repository.targets_with_devices(device or None)
    found = newest_page(session, chosen, Target.id, before)
    view = TargetList(
        targets=_rows(session, [row[0] for row in found.rows]),
        total=count(session, chosen),
        older=found.older,
        device=device or None,
    )
    table = targets_table(view, lambda found: _every(found, device or None))
    return page(request, "targets.html", view, tables=[table])


@pages.page("/targets/{target_id}", name="target")
def target_page(
    request: Request, session: ReadSession, target_id: str, version: int | None = None
) -> Response:
    """One target, with a version of its lattice: the newest by default."""
    view = read(session, target_id, version)
    predictors = predictor_tables.predictors_table(
        view.predictors, total=view.predictor_count, older=None, every=None
    )
    return page(
        request,
        "target.html",
        view,
        tables=[points_table(view.sweeps), predictors],
        sawtooth=figures.sawtooth,
        sweep_table=sweep_table,
    )


def read(session: Session, target_id: str, version: int | None = None) -> TargetPage:
    """Everything about one target, with a version of its lattice: the newest by default.

    Raises:
        NotFound: there is no such target, or no such version.
    """
    target = known_target(session, target_id)
    lattices = lattices_repository.of_target(session, target.id)
    own = Chosen(target_id=target.id)
    found = predictors_repository.page(session, own, before=None, limit=PAGE_ROWS)
    names = spaces_repository.names(session, {row.space_id for row in found})
    total = predictors_repository.count(session, own)
    return page_of(
        target,
        repository.current_target(session, target.device_id, target.runtime_key),
        lattices,
        _version(list(lattices), version),
        _measured(session, target.id),
        [predictor_row(row, names[row.space_id]) for row in found],
        total,
    )


def known_target(session: Session, target_id: str) -> Target:
    """The target with that id, and its device.

    Raises:
        NotFound: there is none.
    """
    target = repository.known_target(session, target_id)
    if target is None:
        raise NotFound(
            f"There is no target {target_id!r}.", "See: latency-service devices show DEVICE"
        )
    return target


def _version(lattices: list[StoredLattice], version: int | None) -> StoredLattice | None:
    if version is None:
        return lattices[0] if lattices else None
    for row in lattices:
        if row.version == version:
            return row
    raise NotFound(
        f"The target's lattice has no version {version}.", "Choose one that the page lists."
    )


def _rows(session: Session, targets: Sequence[Target]) -> list[TargetRow]:
    ids = [target.id for target in targets]
    measured = measurements_repository.count_by_target(session, ids)
    predictors = predictors_repository.count_by_target(session, ids)
    return [
        row_of(target, measured.get(target.id, 0), predictors.get(target.id, 0))
        for target in targets
    ]


def _every(session: Session, device: str | None) -> Iterator[TargetRow]:
    before: str | None = None
    while True:
        chosen = repository.targets_with_devices(device)
        found = newest_page(session, chosen, Target.id, before)
        yield from _rows(session, [row[0] for row in found.rows])
        before = found.older
        if before is None:
            return


def _measured(session: Session, target_id: str) -> list[SpaceCount]:
    """Measurements of each space on the target, most first."""
    counts = measurements_repository.count_by_space(session, target_id)
    names = spaces_repository.names(session, counts)
    found = [
        SpaceCount(space_id=space_id, space=names[space_id], measurements=count)
        for space_id, count in counts.items()
    ]
    return sorted(found, key=lambda row: -row.measurements)


def targets_table(
    view: TargetList, every: Callable[[Session], Iterable[TargetRow]]
) -> Table[TargetRow]:
    return Table(
        caption="Targets: a device and a runtime configuration, told apart by fingerprint",
        columns=[
            Column(
                head="target",
                cell=lambda row: row.place.text,
                link=lambda row: ("target", {"target_id": row.id}),
            ),
            Column(head="state", cell=lambda row: row.state, kind="state"),
            Column(head="fingerprint", cell=lambda row: row.place.fingerprint[:12], kind="code"),
            Column(
                head="generation",
                cell=lambda row: row.generation,
                kind="count",
                meaning="Speeds seen under one fingerprint, this one included",
            ),
            Column(head="measurements", cell=lambda row: row.measurements, kind="count"),
            Column(head="predictors", cell=lambda row: row.predictors, kind="count"),
            Column(head="first seen", cell=lambda row: row.created_at, kind="time"),
        ],
        rows=view.targets,
        total=view.total,
        older=view.older,
        every=every,
        empty="No target yet: a device becomes one when it is first measured.",
        command="latency-service campaigns create --space SPACE --device DEVICE",
    )


_Point = tuple[str, LatticePoint]


def points_table(sweeps: list[Sweep]) -> Table[_Point]:
    """All points of all sweeps, for the CSV."""
    return Table(
        caption="Widths measured for the lattice",
        columns=[Column(head="kind of layer", cell=lambda row: row[0]), *_point_columns()],
        rows=[(sweep.kind, point) for sweep in sweeps for point in sweep.points],
        empty="The lattice of this target was not measured yet.",
    )


def sweep_table(sweep: Sweep) -> Table[_Point]:
    return Table(
        caption=f"Layers of kind {sweep.kind}, by width",
        columns=_point_columns(),
        rows=[(sweep.kind, point) for point in sweep.points],
        empty="No width was measured.",
    )


def _point_columns() -> list[Column[_Point]]:
    return [
        Column(head="width", unit="channels", cell=lambda row: row[1].width, kind="count"),
        columns.latency(lambda row: (row[1].latency_ms, row[1].lower_ms, row[1].upper_ms)),
        Column(
            head="verdict", cell=lambda row: "dominated" if row[1].dominated else "on the lattice"
        ),
    ]
