"""Files behind links of pages, for whoever has signed in: routes of the API want a token, which a
browser does not send.
"""

from __future__ import annotations

import json

from fastapi import Request
from starlette.responses import Response

from latency_service.core.errors import NotFound
from latency_service.dashboard.pages import Pages, attachment
from latency_service.predictors import routes as predictors_routes
from latency_service.runs import service as runs_service
from latency_service.spaces import repository as spaces_repository
from latency_service.spaces import service as spaces_service
from latency_service.web.deps import ReadSession

pages = Pages()


@pages.file("/predictors/{predictor_id}/predictor.onnx", name="artifact")
def artifact(request: Request, session: ReadSession, predictor_id: str) -> Response:
    """A predictor as one ONNX file."""
    answer = predictors_routes.get_artifact(predictor_id, request, session)
    answer.headers.update(attachment(f"predictor-{predictor_id[:12]}.onnx"))
    return answer


@pages.file("/spaces/{space_id}/graph.onnx", name="space-graph")
def graph(session: ReadSession, space_id: str) -> Response:
    """The graph of a search space."""
    row = spaces_service.get_space(session, space_id)
    data = spaces_repository.space_blob(session, row.id)
    headers = attachment(f"space-{row.id[:12]}.onnx")
    return Response(data, media_type="application/octet-stream", headers=headers)


@pages.file("/runs/{run_id}/report.json", name="run-report")
def report(session: ReadSession, run_id: str) -> Response:
    """The report of a pruning run, as its client wrote it."""
    found = runs_service.whole(session, run_id).report
    if found is None:
        raise NotFound(f"The run {run_id!r} has no report.", "A run has one when it has a result.")
    headers = attachment(f"report-{run_id[:12]}.json")
    return Response(json.dumps(found), media_type="application/json", headers=headers)
