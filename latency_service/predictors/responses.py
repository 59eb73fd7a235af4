"""Requests for predictions, as JSON or in binary, and their answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_json

from latency_service.core.arrays import Floats32
from latency_service.core.errors import BadRequest
from latency_service.predictors import binary
from latency_service.predictors.schemas import PredictRequest
from latency_service.predictors.serving import WITH_GRADIENT, Ready
from latency_service.web.errors import describe_validation

Row = Sequence[int | float]


def answer_json(ready: Ready, body: bytes, max_batch: int) -> bytes:
    """The answer to a `PredictRequest`: a `Prediction`.

    Raises:
        BadRequest: the body is not valid, holds too many architectures, or widths out of range.
    """
    request = _parse(body)
    rows = _rows(request)
    _check_count(len(rows), max_batch)
    columns = ready.loaded.predict(ready.loaded.check(rows), gradient=request.gradient)
    answer: dict[str, Any] = {
        "predictor_id": ready.loaded.id,
        **{name: column.tolist() for name, column in zip(WITH_GRADIENT, columns, strict=False)},
        "source": ["predicted"] * len(rows),
        "measurement_id": [None] * len(rows),
        "stale": ready.facts.cure is not None,
        "cure": ready.facts.cure,
    }
    if request.measured and not request.gradient:
        _put_measured(ready, rows, answer)
    return to_json(answer)


def answer_binary(ready: Ready, body: bytes, max_batch: int, *, gradient: bool) -> bytes:
    """The answer to widths in binary, in the form that `predictors.binary` tells: always the
    predictor's.

    Raises:
        BadRequest: not whole width vectors, too many architectures, or a width out of range.
    """
    widths: Floats32 = binary.decode_widths(body, len(ready.loaded.groups))
    _check_count(len(widths), max_batch)
    ready.loaded.check_range(widths)
    return binary.encode(ready.loaded.predict(widths, gradient=gradient))


def _parse(body: bytes) -> PredictRequest:
    try:
        return PredictRequest.model_validate_json(body)
    except ValidationError as error:
        raise BadRequest(
            describe_validation(error.errors()), 'Send {"widths": [...], "gradient": false}.'
        ) from error


def _rows(request: PredictRequest) -> Any:
    """The width vectors of the request, one or many."""
    widths = request.widths
    return widths if widths and isinstance(widths[0], list) else [widths]


def _put_measured(ready: Ready, rows: Sequence[Row], answer: dict[str, Any]) -> None:
    """Replace predictions of architectures that were measured; equal numbers are equal keys, whole
    or not.
    """
    for index, row in enumerate(rows):
        known = ready.facts.measured.get(tuple(row))
        if known is not None:
            answer["latency_ms"][index] = known.latency_ms
            answer["lower_ms"][index], answer["upper_ms"][index] = known.lower_ms, known.upper_ms
            answer["source"][index], answer["measurement_id"][index] = "measured", known.id


def _check_count(count: int, max_batch: int) -> None:
    if count > max_batch:
        raise BadRequest(
            f"{count} architectures in one request; at most {max_batch} are answered.",
            "Send several requests.",
        )
