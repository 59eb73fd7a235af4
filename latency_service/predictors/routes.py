"""Routes of predictors."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import ValidationError
from pydantic_core import to_json
from starlette.concurrency import run_in_threadpool
from starlette.routing import Route

from latency_service.errors import BadRequest
from latency_service.predictors import repository, service
from latency_service.predictors.schemas import Prediction, PredictorView, PredictRequest
from latency_service.predictors.serving import Loaded, Predictors
from latency_service.web.auth import ApiOnly, Authenticator, check_role
from latency_service.web.deps import ReadSession
from latency_service.web.errors import ErrorResponse, describe_validation

router = APIRouter(prefix="/v1/predictors", tags=["predictors"])

#: Batches up to this size are answered on the event loop: handing them to a thread would take longer.
SMALL_BATCH = 32

PREDICT_DOC: dict[str, Any] = {
    "security": [{"HTTPBearer": []}],
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": PredictRequest.model_json_schema(),
                "examples": {
                    "one": {"summary": "one architecture", "value": {"widths": [16, 32, 64]}},
                    "many": {
                        "summary": "two, with the gradient",
                        "value": {"widths": [[16, 32, 64], [12, 24, 48]], "gradient": True},
                    },
                },
            }
        },
    },
}


@router.post(
    "/{predictor_id}/predict",
    response_model=Prediction,
    openapi_extra=PREDICT_DOC,
    responses={404: {"model": ErrorResponse}, 422: {"model": ErrorResponse}},
)
async def predict(predictor_id: str, request: Request) -> Response:
    """Predict the latency of one or many architectures, in ms, with or without d latency / d width.

    Widths need not be whole. Each must lie within its group's range.
    """
    state = request.app.state
    authenticator: Authenticator = state.authenticator
    await authenticator.ensure_migrated()
    check_role(await authenticator.principal(request), "api")
    try:
        asked = PredictRequest.model_validate_json(await request.body())
    except ValidationError as error:
        raise BadRequest(describe_validation(error.errors()), 'Send {"widths": [...], "gradient": false}.') from error
    predictors: Predictors = state.predictors
    loaded = predictors.known(predictor_id)
    if loaded is None:
        loaded = await run_in_threadpool(predictors.load, predictor_id)
    rows: Any = asked.widths if asked.widths and isinstance(asked.widths[0], list) else [asked.widths]
    if len(rows) > state.settings.max_predict_batch:
        raise BadRequest(
            f"{len(rows)} architectures in one request; at most {state.settings.max_predict_batch} are answered.",
            "Send several requests.",
        )
    if len(rows) <= SMALL_BATCH:
        body = _answer(loaded, rows, asked.gradient)
    else:
        body = await run_in_threadpool(_answer, loaded, rows, asked.gradient)
    return Response(body, media_type="application/json")


@router.get("", dependencies=ApiOnly, responses={409: {"model": ErrorResponse, "description": "none yet"}})
def list_predictors(
    session: ReadSession,
    space_id: str | None = None,
    device: str | None = None,
    runtime: Annotated[str | None, Query(description="for example CPUExecutionProvider/t1/b1/fp32")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    offset: Annotated[int, Query(ge=0, le=1_000_000_000)] = 0,
) -> list[PredictorView]:
    """Predictors, newest first. With a space and a device: 409 `not_ready` while there is none for them."""
    return service.listed(session, space_id=space_id, device=device, runtime=runtime, limit=limit, offset=offset)


@router.get("/{predictor_id}", dependencies=ApiOnly)
def show_predictor(predictor_id: str, session: ReadSession) -> PredictorView:
    """One predictor with its sidecar: errors on held-out architectures, the repeatability floor, rivals, lattice."""
    return service.show(service.get(session, predictor_id))


@router.get(
    "/{predictor_id}/artifact",
    dependencies=ApiOnly,
    response_class=Response,
    responses={
        200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
        304: {"description": "unchanged"},
    },
)
def get_artifact(predictor_id: str, request: Request, session: ReadSession) -> Response:
    """The predictor as one ONNX file, to run locally. Its SHA-256 is the ETag."""
    row = service.get(session, predictor_id)
    etag = f'"{row.artifact_sha256}"'
    headers = {"etag": etag, "cache-control": "private, no-cache"}
    asked = [entry.strip().removeprefix("W/") for entry in request.headers.get("if-none-match", "").split(",")]
    if etag in asked or "*" in asked:
        return Response(status_code=304, headers=headers)
    artifact = repository.artifact(session, predictor_id)
    return Response(artifact, media_type="application/octet-stream", headers=headers)


async def _predict_at_once(request: Request) -> Response:
    request.scope["route"] = hot_route
    return await predict(request.path_params["predictor_id"], request)


#: The same route without FastAPI's resolving of parameters, which takes longer than a prediction; tried before all
#: others. The one above documents it.
hot_route = Route("/v1/predictors/{predictor_id}/predict", _predict_at_once, methods=["POST"])


def _answer(loaded: Loaded, rows: list[list[float]], gradient: bool) -> bytes:
    answer = loaded.predict(loaded.check(rows), gradient=gradient)
    return to_json({"predictor_id": loaded.id, **answer})
