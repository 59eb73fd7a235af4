"""Pages of search spaces: the list, and one with its width groups on the network's graph."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import Request
from starlette.responses import Response

from latency_service.core.errors import NotFound
from latency_service.dashboard.pages import Pages, page
from latency_service.dashboard.spaces.drawing import color_of, draw
from latency_service.dashboard.spaces.graph import graph_of
from latency_service.dashboard.spaces.views import GroupRow, SpaceList, SpaceRow, page_of, space_row
from latency_service.dashboard.tables import Column, Table
from latency_service.lattices.probes import kinds_of_groups
from latency_service.predictors import repository as predictors_repository
from latency_service.predictors.models import StoredPredictor
from latency_service.spaces import repository, service
from latency_service.web.deps import ReadSession

pages = Pages()
#: Search spaces in the list.
MOST_SPACES = 500


@pages.page("/spaces", name="spaces")
def space_list(request: Request, session: ReadSession) -> Response:
    """Search spaces, newest first."""
    spaces = repository.spaces(session)
    counts = predictors_repository.count_by_space(session, [row.id for row in spaces])
    rows = [space_row(row, counts.get(row.id, 0)) for row in spaces]
    return page(request, "spaces.html", SpaceList(spaces=rows), tables=[spaces_table(rows)])


@pages.page("/spaces/{space_id}", name="space")
def space_page(
    request: Request, session: ReadSession, space_id: str, target: str | None = None
) -> Response:
    """One search space, with the lattice of a target."""
    row = service.get_space(session, space_id)
    space = service.load(session, row.id)
    predictors = predictors_repository.newest_of_space(session, row.id)
    view = page_of(
        row,
        graph_of(space),
        kinds_of_groups(space),
        space.manifest.unprunable,
        predictors,
        _chosen(predictors, target),
    )
    return page(
        request,
        "space.html",
        view,
        tables=[groups_table(view.groups)],
        drawing=draw(view.graph) if view.graph else None,
        color_of=color_of,
    )


def spaces_table(rows: list[SpaceRow]) -> Table[SpaceRow]:
    return Table(
        caption="Search spaces, newest first",
        most=MOST_SPACES,
        columns=[
            Column(
                head="search space",
                cell=lambda row: row.name,
                link=lambda row: ("space", {"space_id": row.id}),
            ),
            Column(head="id", cell=lambda row: row.id[:12], kind="code"),
            Column(
                head="width groups",
                cell=lambda row: row.groups,
                kind="count",
                meaning="Layers whose channels are removed together count once",
            ),
            Column(head="parameters", cell=lambda row: row.parameters, kind="count"),
            Column(
                head="MACs",
                cell=lambda row: row.macs,
                kind="count",
                meaning="Multiply-accumulates of one image at full width",
            ),
            Column(head="input", cell=lambda row: row.input),
            Column(head="predictors", cell=lambda row: row.predictors, kind="count"),
            Column(head="made", cell=lambda row: row.created_at, kind="time"),
        ],
        rows=rows,
        empty="There is no search space here yet. Pruning uploads the network's, or upload one.",
        command="latency-service spaces create FILE",
    )


def groups_table(rows: list[GroupRow]) -> Table[GroupRow]:
    return Table(
        caption="Width groups in the order of the network, in channels",
        columns=[
            Column(head="group", cell=lambda row: row.number, kind="count"),
            Column(head="name", cell=lambda row: row.name),
            Column(head="full", cell=lambda row: row.full, kind="count"),
            Column(head="minimum", cell=lambda row: row.minimum, kind="count"),
            Column(head="lattice", cell=lambda row: row.lattice_text),
            Column(head="layers", cell=lambda row: len(row.members), kind="count"),
            Column(head="members", cell=lambda row: ", ".join(row.members)),
        ],
        rows=rows,
        empty="Nothing in this network can be pruned: see the reasons below.",
    )


def _chosen(predictors: Sequence[StoredPredictor], target: str | None) -> StoredPredictor | None:
    """The predictor whose lattice is shown: of the target asked for, or else the newest.

    Raises:
        NotFound: there is none of that target.
    """
    if not target:
        return predictors[0] if predictors else None
    for row in predictors:
        if row.target_id == target:
            return row
    raise NotFound(
        f"There is no predictor of this space on target {target!r}.", "Choose one of the page's."
    )
