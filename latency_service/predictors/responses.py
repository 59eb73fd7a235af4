"""Requests for predictions, as JSON or in binary, and their answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json

from latency_service.core.arrays import Floats32
from latency_service.core.errors import BadRequest
from latency_service.predictors import binary
from latency_service.predictors.freshness import MeasuredLatency
from latency_service.predictors.schemas import PredictRequest
from latency_service.predictors.serving import WITH_GRADIENT, ServedPredictor
from latency_service.web.errors import describe_validation

Row = Sequence[int | float]


def answer_json(served: ServedPredictor, body: bytes, max_batch: int) -> bytes:
    """The answer to a `PredictRequest`: a `Prediction`.

    Raises:
        BadRequest: the body is not valid, holds too many architectures, or widths out of range.
    """
    request = _parse(body)
    rows = _rows(request)
    _check_count(len(rows), max_batch)
    columns = served.loaded.predict(served.loaded.check(rows), gradient=request.gradient)
    answer = _prediction(served, columns, len(rows))
    if request.measured and not request.gradient:
        _put_measured(served, rows, answer)
    return to_json(answer)


def answer_binary(served: ServedPredictor, body: bytes, max_batch: int, *, gradient: bool) -> bytes:
    """The answer to binary widths, in the format of `predictors.binary`: always predictions, never
    measurements.

    Raises:
        BadRequest: not whole width vectors, too many architectures, or a width out of range.
    """
    widths: Floats32 = binary.decode_widths(body, len(served.loaded.groups))
    _check_count(len(widths), max_batch)
    served.loaded.check_range(widths)
    return binary.encode(served.loaded.predict(widths, gradient=gradient))


def _parse(body: bytes) -> PredictRequest:
    try:
        return PredictRequest.model_validate_json(body)
    except ValidationError as error:
        raise BadRequest(
            describe_validation(error.errors()), 'Send {"widths": [...], "gradient": false}.'
        ) from error


def _prediction(served: ServedPredictor, columns: Sequence[Floats32], count: int) -> dict[str, Any]:
    named = zip(WITH_GRADIENT, columns, strict=False)
    return {
        "predictor_id": served.loaded.id,
        **{name: column.tolist() for name, column in named},
        "source": ["predicted"] * count,
        "measurement_id": [None] * count,
        "stale": served.freshness.cure is not None,
        "cure": served.freshness.cure,
    }


def _rows(request: PredictRequest) -> Any:
    """The width vectors of the request, one or many."""
    widths = request.widths
    return widths if widths and isinstance(widths[0], list) else [widths]


def _put_measured(served: ServedPredictor, rows: Sequence[Row], answer: dict[str, Any]) -> None:
    """Replace predictions of architectures that were measured; ``16`` and ``16.0`` are the same
    key.
    """
    for index, row in enumerate(rows):
        measured = served.freshness.measured.get(tuple(row))
        if measured is not None:
            _put(answer, index, measured)


def _put(answer: dict[str, Any], index: int, measured: MeasuredLatency) -> None:
    answer["latency_ms"][index] = measured.latency_ms
    answer["lower_ms"][index] = measured.lower_ms
    answer["upper_ms"][index] = measured.upper_ms
    answer["source"][index] = "measured"
    answer["measurement_id"][index] = measured.id


def _check_count(count: int, max_batch: int) -> None:
    if count > max_batch:
        raise BadRequest(
            f"{count} architectures in one request; the maximum is {max_batch}.",
            "Send several requests.",
        )
