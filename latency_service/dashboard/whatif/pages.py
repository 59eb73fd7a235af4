"""The what-if page, and the answers that its sliders ask for."""

from __future__ import annotations

from functools import partial
from threading import BoundedSemaphore
from typing import Annotated

from anyio import to_thread
from fastapi import Query, Request
from starlette.responses import Response

from latency_service.core.errors import BadRequest, Overloaded
from latency_service.core.units import parse_duration
from latency_service.dashboard import links
from latency_service.dashboard.pages import Pages, page
from latency_service.dashboard.places import place_of
from latency_service.dashboard.tables import Column, Table
from latency_service.dashboard.whatif.nearest import nearest_to
from latency_service.dashboard.whatif.views import (
    GroupCost,
    Nearest,
    WhatIf,
    answer_of,
    parse_widths,
    sliders_of,
    snapped,
    state_of,
)
from latency_service.predictors import service
from latency_service.predictors.serving import Loaded, Predictors
from latency_service.spaces import repository as spaces_repository
from latency_service.web.deps import ReadSession

pages = Pages()
_PATH = "/predictors/{predictor_id}/what-if"
#: Answers that are computed at the same time: sliders must not take the threads of other requests.
ANSWERS_AT_ONCE = 4
#: Searches for the nearest architectures at the same time, and how long another one waits.
_SEARCHES = BoundedSemaphore(2)
SEARCH_SECONDS = 5.0
links.declare("whatif-answer", f"{_PATH}/answer")


@pages.page(_PATH, name="whatif")
def what_if(
    request: Request,
    session: ReadSession,
    predictor_id: str,
    w: str | None = None,
    near: str | None = None,
    snap: bool = False,
) -> Response:
    """Widths, their predicted latency, what each group costs, and the nearest to a latency."""
    row = service.get(session, predictor_id)
    space = spaces_repository.space(session, row.space_id)
    assert space is not None, "spaces are never deleted"
    served = _predictors(request).load(predictor_id)
    sidecar = served.loaded.sidecar
    widths = parse_widths(w or _of_form(request), sidecar)
    if snap:
        widths = snapped(widths, sidecar)
    near_ms = _milliseconds(near)
    place = place_of(row.target)
    view = WhatIf(
        predictor_id=predictor_id,
        space_id=row.space_id,
        space=space.name,
        target_id=place.target_id,
        place=place.text,
        stale_cure=served.freshness.cure,
        answer=answer_of(served, widths),
        sliders=sliders_of(widths, sidecar, [group["members"] for group in space.groups]),
        state=state_of(widths),
        near_ms=near_ms,
        nearest=[] if near_ms is None else _nearest(served.loaded, near_ms),
    )
    return page(
        request,
        "whatif.html",
        view,
        tables=[costs_table(view.answer.costs)],
        near_text=near or "",
        snap=snap,
        most_ms=max((cost.saved_ms or 0.0) for cost in view.answer.costs),
    )


async def answer(
    request: Request, predictor_id: str, w: Annotated[str, Query(max_length=2000)]
) -> Response:
    """Latency and costs at some widths, without the page around them."""
    answered = partial(_answered, _predictors(request), predictor_id, w)
    text = await to_thread.run_sync(answered, limiter=request.app.state.what_if_limiter)
    return Response(text, media_type="application/json")


pages.router.get(f"{_PATH}/answer", response_model=None, name="whatif-answer")(answer)


def costs_table(costs: list[GroupCost]) -> Table[GroupCost]:
    return Table(
        caption="What each width group costs at these widths",
        columns=[
            Column(head="width group", cell=lambda row: row.group),
            Column(head="width", cell=lambda row: row.width, kind="count"),
            Column(head="next narrower", cell=lambda row: row.narrower, kind="count"),
            Column(head="saves", unit="ms", cell=lambda row: row.saved_ms, kind="number"),
            Column(head="saves", unit="%", cell=lambda row: row.saved_percent, kind="number"),
            Column(
                head="per channel", unit="µs", cell=lambda row: row.per_channel_us, kind="number"
            ),
            Column(
                head="gradient",
                unit="ms per channel",
                cell=lambda row: row.gradient_ms,
                kind="number",
            ),
        ],
        rows=costs,
        empty="The search space has no width group.",
    )


def _nearest(loaded: Loaded, near_ms: float) -> list[Nearest]:
    """Architectures nearest to a latency, ms.

    Raises:
        Overloaded: others search as well.
    """
    if not _SEARCHES.acquire(timeout=SEARCH_SECONDS):
        raise Overloaded(
            "Too many searches for the nearest widths go on at once.",
            "Load the page again in a few seconds.",
        )
    try:
        return nearest_to(loaded, near_ms)
    finally:
        _SEARCHES.release()


def _answered(predictors: Predictors, predictor_id: str, text: str) -> str:
    served = predictors.known(predictor_id) or predictors.load(predictor_id)
    widths = parse_widths(text, served.loaded.sidecar)
    return answer_of(served, widths).model_dump_json()


def _predictors(request: Request) -> Predictors:
    predictors: Predictors = request.app.state.predictors
    return predictors


def _of_form(request: Request) -> str | None:
    """Widths of the page's form, which has one field for each group."""
    fields = request.query_params
    count = sum(1 for name in fields if name.startswith("g") and name[1:].isdigit())
    if not count:
        return None
    return ".".join(fields.get(f"g{g}", "") for g in range(count))


def _milliseconds(text: str | None) -> float | None:
    """A latency such as ``6``, ``6 ms`` or ``800us`` in ms.

    Raises:
        BadRequest: it is not one.
    """
    if not text or not text.strip():
        return None
    try:
        return 1000 * parse_duration(text, default_unit="ms")
    except ValueError as error:
        raise BadRequest(f"near: {error}.", "Give a latency such as 6 or 800us.") from error
