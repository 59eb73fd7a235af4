"""Routes of predictors."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Request, Response
from starlette.concurrency import run_in_threadpool

from latency_service.auth.access import USER_TOKEN, access, require_scope
from latency_service.core.errors import BadRequest
from latency_service.predictors import binary, repository, service
from latency_service.predictors.responses import answer_binary, answer_json
from latency_service.predictors.schemas import Prediction, PredictorView, PredictRequest
from latency_service.predictors.serving import Predictors, ServedPredictor
from latency_service.settings import Settings
from latency_service.web.answers import BINARY_ANSWER, OCTETS, errors
from latency_service.web.bodies import BodyLimits, check_nodes, read_body
from latency_service.web.deps import Limit, Offset, ReadSession
from latency_service.web.routing import Router, hot_route

router = Router(prefix="/v1/predictors", tags=["predictors"])

_may_read = require_scope("read")

#: Bodies up to this size are answered on the event loop: handing them to a thread would take
#: longer. Larger ones would keep everybody else waiting.
SMALL_BYTES = 4096

#: A prediction by a predictor that exists costs far less than any other request.
_COST = 0.05

PREDICT_DOC: dict[str, Any] = {
    "security": [{USER_TOKEN: ["read"]}],
    "parameters": [
        {
            "name": "gradient",
            "in": "query",
            "schema": {"type": "boolean", "default": False},
            "description": "for binary batches: also return d latency / d width",
        }
    ],
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
            },
            OCTETS: {"schema": {"type": "string", "format": "binary"}},
        },
    },
}


@router.post(
    "/{predictor_id}/predict",
    response_model=Prediction,
    openapi_extra=PREDICT_DOC,
    responses=BINARY_ANSWER,
)
async def predict(predictor_id: str, request: Request) -> Response:
    """Predict the latency of one or many architectures, in ms, with or without d latency / d width.

    Widths need not be whole. Each must lie within its group's range. An architecture that was
    measured on the target is answered with its measurement, and `source` says so; not where the
    gradient is asked for, nor in binary.

    Binary (`application/octet-stream`): the body is the widths [B, G] as little-endian float32, row
    by row; the answer is the columns latency_ms [B], lower_ms [B], upper_ms [B] and, with
    `?gradient=true`, gradient [B, G], concatenated little-endian float32 arrays. The header
    `x-stale: true` says that the predictor is stale.
    """
    await _may_read(request)
    settings: Settings = request.app.state.settings
    limits = BodyLimits.of(settings, "prediction")
    body = await read_body(request, limits)
    served = await _served(request, predictor_id)
    request.state.give_back(1.0 - _COST)
    max_batch = settings.max_predict_batch
    if request.headers.get("content-type", "").startswith(binary.MEDIA_TYPE):
        gradient = _flag(request.query_params.get("gradient", "false"))
        content = await run_in_threadpool(answer_binary, served, body, max_batch, gradient=gradient)
        return _binary_response(served, content)
    if len(body) <= SMALL_BYTES:
        answer = _answer_json(served, body, limits, max_batch)
    else:
        answer = await run_in_threadpool(_answer_json, served, body, limits, max_batch)
    return Response(answer, media_type="application/json")


def _answer_json(served: ServedPredictor, body: bytes, limits: BodyLimits, max_batch: int) -> bytes:
    check_nodes(body, limits)
    return answer_json(served, body, max_batch)


async def _served(request: Request, predictor_id: str) -> ServedPredictor:
    predictors: Predictors = request.app.state.predictors
    served = predictors.known(predictor_id)
    if served is None:
        served = await run_in_threadpool(predictors.load, predictor_id)
    return served


def _binary_response(served: ServedPredictor, content: bytes) -> Response:
    headers = {
        "x-predictor-id": served.loaded.id,
        "x-stale": str(served.freshness.cure is not None).lower(),
    }
    return Response(content, media_type=binary.MEDIA_TYPE, headers=headers)


def _flag(value: str) -> bool:
    if value not in ("true", "false"):
        raise BadRequest(
            f"gradient: {value!r} is neither true nor false.",
            "Send ?gradient=true, or leave it out.",
        )
    return value == "true"


@router.get(
    "",
    dependencies=access("read"),
    responses=errors(404, 409),
)
def list_predictors(
    session: ReadSession,
    space_id: str | None = None,
    device: str | None = None,
    runtime: Annotated[
        str | None, Query(description="for example CPUExecutionProvider/t1/b1/fp32")
    ] = None,
    limit: Limit = 100,
    offset: Offset = 0,
) -> list[PredictorView]:
    """Predictors, newest first. With a space and a device: 409 `not_ready` while there is none for
    them.
    """
    return service.listed(
        session, space_id=space_id, device=device, runtime=runtime, limit=limit, offset=offset
    )


@router.get("/{predictor_id}", dependencies=access("read"))
def show_predictor(predictor_id: str, session: ReadSession) -> PredictorView:
    """One predictor with its sidecar: errors on held-out architectures, the repeatability floor,
    rivals, lattice.
    """
    return service.show_whole(service.get(session, predictor_id))


@router.get(
    "/{predictor_id}/artifact",
    dependencies=access("read"),
    response_class=Response,
    responses={**BINARY_ANSWER, 304: {"description": "unchanged"}},
)
def get_artifact(predictor_id: str, request: Request, session: ReadSession) -> Response:
    """The predictor as one ONNX file, to run locally. Its SHA-256 is the ETag."""
    row = service.get(session, predictor_id)
    etag = f'"{row.artifact_sha256}"'
    headers = {"etag": etag, "cache-control": "private, no-cache"}
    if _is_cached(request, etag):
        return Response(status_code=304, headers=headers)
    artifact = repository.artifact(session, predictor_id)
    return Response(artifact, media_type="application/octet-stream", headers=headers)


def _is_cached(request: Request, etag: str) -> bool:
    """Whether the client holds this version already."""
    asked = request.headers.get("if-none-match", "").split(",")
    tags = [entry.strip().removeprefix("W/") for entry in asked]
    return etag in tags or "*" in tags


async def _predict_at_once(request: Request) -> Response:
    return await predict(request.path_params["predictor_id"], request)


HOT_ROUTES = [hot_route("/v1/predictors/{predictor_id}/predict", _predict_at_once, "POST")]
